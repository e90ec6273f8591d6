"""Pretraining of biomedical ELECTRA encoders: raw text to corpus, model, checkpoints and a Hugging Face folder."""
