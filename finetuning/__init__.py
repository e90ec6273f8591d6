"""From a Hugging Face encoder folder to scores: one script per benchmark, and the loop they share."""
