"""What malicious clients do: to the images they work on, or to what they upload."""
