"""The ways in: each brings packets of its peers to the inbox and carries the replies back."""
