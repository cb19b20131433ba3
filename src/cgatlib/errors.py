"""The one error that users meet."""


class CgatError(ValueError):
    """A problem a user can act on; the message is one sentence naming the file, row or key."""
