"""The worked example, Magic: The Gathering cards. Only the CLI imports this package; nothing else knows about cards."""
