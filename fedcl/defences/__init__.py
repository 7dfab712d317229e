"""What a server sets aside of small sets that are well-formed, before it trains on the rest."""
