"""What a generator of simulated data sets draws, here and in another process."""


def numbers(draws):
    return tuple(draws.generator.integers(2**40, size=4).tolist())


def send(draws, connection):
    """Run in a child process, which finds this module, unlike a test's own."""
    connection.send((numbers(draws), numbers(draws.child())))
