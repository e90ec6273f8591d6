"""Pretraining of biomedical ELECTRA encoders: raw text to corpus, model and a Hugging Face folder."""
