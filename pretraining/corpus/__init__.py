"""The offline stages: readers, sentences, vocabulary and index. Nothing here needs torch."""
