"""Texts and question sets as files, which training and evaluation read alike."""
