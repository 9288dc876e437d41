// Light or dark: as the system has it, until the reader chooses.
const system = matchMedia("(prefers-color-scheme: dark)");
const kept = () => { try { return localStorage.getItem("sentinode-theme"); } catch { return null; } };

function apply() {
  document.documentElement.dataset.theme = kept() ?? (system.matches ? "dark" : "light");
}

export function toggleTheme() {
  const next = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  try { localStorage.setItem("sentinode-theme", next); } catch { /* a private window keeps nothing */ }
  document.documentElement.dataset.theme = next;
}

apply();
system.addEventListener("change", apply);
