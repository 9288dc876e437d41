"""Experiments that answer a question: which backbone, which hyperparameters, and would more data help?"""
