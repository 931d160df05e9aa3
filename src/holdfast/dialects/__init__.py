"""How providers and clients spell a call: pure tables and codecs."""
