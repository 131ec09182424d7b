"""Names and ids of containers: validation, generation, lookup by any form."""

from __future__ import annotations

import functools
import random
import re
import secrets
from collections.abc import Callable, Iterable

from buildtool.errors import InvalidInput, NotFound

_NAME = re.compile(r"/?[a-zA-Z0-9][a-zA-Z0-9_.-]+")

_ADJECTIVES = """
able amber agile ample apt arid avid balmy bold brave breezy bright brisk calm candid careful cheery civil
classy clear clever cosy crisp curious daring deft devout dreamy dutiful eager earnest easy elegant exact
fair fearless festive fleet fluent fond frank frosty frugal gentle genuine gifted glad golden graceful
grateful hardy hearty helpful honest humble ideal jolly jovial keen kind lively logical loyal lucid lucky
mellow merry mighty mild modest neat nimble noble novel open orderly patient peaceful placid plucky poised
polite prudent punctual quaint quick quiet radiant rapid ready robust rosy rustic sage sane serene sharp
shiny silent sincere smooth snug sober solid spry stable steady stellar sturdy sunny supple swift tactful
tender thrifty tidy tranquil trusty upbeat valiant vivid warm watchful whole willing witty worthy zealous
zesty
"""
_SURNAMES = """
abel adams agnesi ampere apgar archimedes babbage backus banach bardeen bernoulli bessel birkhoff bohr
boltzmann boole borg bose brahe brattain cantor carson cartan cauchy cerf chandra church clarke codd conway
cori coulomb cray crick curie dalton darwin davy dedekind dijkstra diophantus dirac edison einstein
engelbart eratosthenes erdos euclid euler faraday fermat fermi feynman fibonacci fleming fourier franklin
frege galileo galois gauss germain gibbs godel goodall grothendieck hamilton hamming hawking heaviside
heisenberg herschel hertz hilbert hodgkin hooke hopper hubble huygens hypatia jacobi jacquard joule kepler
kernighan khayyam kirchhoff klein knuth kolmogorov kovalevskaya lagrange lamarr laplace lavoisier leavitt
legendre leibniz linnaeus lovelace lyell markov maxwell mayer mccarthy meitner mendel mendeleev mercator
mirzakhani moebius monge morse napier nash newton noether ohm oppenheimer pascal pasteur pauli pauling peano
planck poincare poisson ptolemy pythagoras ramanujan rayleigh riemann ritchie rontgen rubin rutherford sagan
schrodinger shannon somerville stokes tarski tesla thales thompson turing volta wallace watt weierstrass
wiener wilkes wirth wu yukawa zeno zermelo
"""


@functools.cache
def _words() -> tuple[list[str], list[str]]:
    return _ADJECTIVES.split(), _SURNAMES.split()


def new_id() -> str:
    """A fresh container or exec id: 64 hex digits, whose first twelve are not all decimal digits.

    (A short id of digits only would be taken for a number as a host name.)
    """
    while True:
        identity = secrets.token_hex(32)
        if not identity[:12].isdecimal():
            return identity


def check_name(name: str) -> str:
    """The name without its leading slash. Raises InvalidInput with Docker's text."""
    if not _NAME.fullmatch(name):
        raise InvalidInput(f"Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")
    return name.removeprefix("/")


def random_name(taken: Callable[[str], bool]) -> str:
    """`adjective_surname`, with a digit behind it when six tries were all taken."""
    adjectives, surnames = _words()
    for attempt in range(64):
        name = f"{random.choice(adjectives)}_{random.choice(surnames)}"
        if attempt >= 6:
            name += str(random.randrange(10 ** (attempt // 6)))
        if not taken(name):
            return name
    return new_id()[:12]


def lookup(reference: str, ids: Iterable[str], by_name: Callable[[str], str | None]) -> str:
    """The id meant by a full id, a name (with or without its slash) or a unique prefix of an id, in that order.

    Raises InvalidInput (empty, ambiguous) and NotFound, with Docker's texts. `ids` only needs to be iterated when
    the reference is neither a known id nor a name.
    """
    if not reference:
        raise InvalidInput("No container name or ID supplied")
    named = by_name(reference.removeprefix("/"))
    if named is not None:
        return named
    found = [identity for identity in ids if identity.startswith(reference)]
    if len(found) > 1:
        raise InvalidInput(f"multiple IDs found with provided prefix: {reference}")
    if not found:
        raise NotFound(f"No such container: {reference}")
    return found[0]
