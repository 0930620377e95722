"""The dock and its parts. Everything that needs Qt lives here."""
