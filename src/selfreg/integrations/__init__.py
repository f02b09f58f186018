"""Adapters to other frameworks, one file each; nothing else imports them."""
