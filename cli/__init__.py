"""The operator's command `caravan`: starts the parts, shows what runs, chats."""
