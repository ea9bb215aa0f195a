"""Training of the transcriber: an encoder and an attention decoder that writes texts, from clips with transcripts."""
