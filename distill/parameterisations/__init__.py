"""How stored numbers become images: one file a parameterisation."""
