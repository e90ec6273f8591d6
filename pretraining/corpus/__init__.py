"""The offline stages: readers, filter, sentences, vocabulary and index. Nothing here needs torch."""
