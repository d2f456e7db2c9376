"""Judge programs: how a label comes about, and how judges who know it compare two outputs; one file each."""
