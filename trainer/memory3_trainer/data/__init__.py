"""What training reads: documents, question sets, packed text, references and their neighbours."""
