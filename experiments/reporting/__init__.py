"""What a report is made of: runs, arms, tables, figures and the page that shows them."""
