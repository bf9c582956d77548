"""What is handed in: made, checked, sent and verified."""
