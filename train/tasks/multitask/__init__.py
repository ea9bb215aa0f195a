"""Training of the multitask network: emotion and transcripts from clips that have one of the two, or both."""
