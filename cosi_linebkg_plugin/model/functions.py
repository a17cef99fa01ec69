"""Line shapes and continua that astromodels does not have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from astromodels import Broken_powerlaw, Gaussian, Powerlaw
from astromodels.functions.function import Function1D, FunctionMeta
from numpy.typing import NDArray

if TYPE_CHECKING:
    from astropy.units import UnitBase as Unit

#: Energies [keV] or densities, of any shape; quantities where astromodels works with units.
Energies = NDArray[np.float64] | Any


class TailedGaussian(Function1D, metaclass=FunctionMeta):  # type: ignore[misc,metaclass]
    r"""
    description :

        A Gaussian line of which a fraction has an exponential low-energy tail

    latex : $ F\left[(1-f)\,N(x;\mu,\sigma)+\frac{f}{2\ell}e^{y/\ell+\sigma^2/2\ell^2}\,{\rm erfc}\left(\frac{y}{\sqrt2\sigma}+\frac{\sigma}{\sqrt2\ell}\right)\right],\ y=x-\mu $

    parameters :

        F :

            desc : Integral between -inf and +inf
            initial value : 1

        mu :

            desc : Energy of the line
            initial value : 0.0

        sigma :

            desc : Standard deviation of the Gaussian
            initial value : 1.0
            min : 1e-12

        fraction :

            desc : Share of the counts in the tail
            initial value : 0.2
            min : 0
            max : 1

        length :

            desc : Mean energy loss in the tail
            initial value : 10.0
            min : 1e-6

    tests :
        - { x : 0.0, function value: 0.328403400, tolerance: 1e-8}

    """  # noqa: E501

    def _set_units(self, x_unit: Unit, y_unit: Unit) -> None:
        self.F.unit = y_unit * x_unit
        self.mu.unit = x_unit
        self.sigma.unit = x_unit
        self.fraction.unit = ""
        self.length.unit = x_unit

    def evaluate(
        self, x: Energies, F: float, mu: float, sigma: float, fraction: float, length: float
    ) -> Energies:
        """Density at x; see `lineshapes` for the formula."""
        from ..spectrum.lineshapes import tailed_gaussian_density

        return F * tailed_gaussian_density(x, mu, sigma, fraction, length)


class AnnihilationLine(Function1D, metaclass=FunctionMeta):  # type: ignore[misc,metaclass]
    r"""
    description :

        A line with a narrow and a broad Gaussian at one energy

    latex : $ F\left[(1-p)\,N(x;\mu,\sigma)+p\,N(x;\mu,r\sigma)\right] $

    parameters :

        F :

            desc : Integral between -inf and +inf
            initial value : 1

        mu :

            desc : Energy of the line
            initial value : 0.0

        sigma :

            desc : Standard deviation of the narrow part
            initial value : 1.0
            min : 1e-12

        broad :

            desc : Share of the counts in the broad part
            initial value : 0.5
            min : 0
            max : 1

        ratio :

            desc : Width of the broad part over that of the narrow part
            initial value : 2.0
            min : 1

    tests :
        - { x : 0.0, function value: 0.29920671, tolerance: 1e-8}

    """

    def _set_units(self, x_unit: Unit, y_unit: Unit) -> None:
        self.F.unit = y_unit * x_unit
        self.mu.unit = x_unit
        self.sigma.unit = x_unit
        self.broad.unit = ""
        self.ratio.unit = ""

    def evaluate(
        self, x: Energies, F: float, mu: float, sigma: float, broad: float, ratio: float
    ) -> Energies:
        """Density at x."""
        z = (x - mu) / sigma
        narrow = (1.0 - broad) * np.exp(-0.5 * z**2)
        wide = broad / ratio * np.exp(-0.5 * (z / ratio) ** 2)
        return F * (narrow + wide) / (np.sqrt(2.0 * np.pi) * sigma)


class LinearGaussian(Function1D, metaclass=FunctionMeta):  # type: ignore[misc,metaclass]
    r"""
    description :

        A Gaussian line with a variance that is linear in its energy

    latex : $ F\,N(x;\mu,\sigma),\ \sigma^2 = a + b\mu $

    parameters :

        F :

            desc : Integral between -inf and +inf
            initial value : 1

        mu :

            desc : Energy of the line
            initial value : 0.0

        a :

            desc : Variance of the width at energy 0
            initial value : 1.0
            min : 0

        b :

            desc : Growth of the variance with energy
            initial value : 0.0
            min : 0

    tests :
        - { x : 0.0, function value: 0.3989422804, tolerance: 1e-8}

    """

    def _set_units(self, x_unit: Unit, y_unit: Unit) -> None:
        self.F.unit = y_unit * x_unit
        self.mu.unit = x_unit
        self.a.unit = x_unit**2
        self.b.unit = x_unit

    def evaluate(self, x: Energies, F: float, mu: float, a: float, b: float) -> Energies:
        """Density at x."""
        variance = a + b * mu
        return F * np.exp(-0.5 * (x - mu) ** 2 / variance) / np.sqrt(2.0 * np.pi * variance)


class LinearTailedGaussian(Function1D, metaclass=FunctionMeta):  # type: ignore[misc,metaclass]
    r"""
    description :

        A line with an exponential low-energy tail and a variance that is linear in its energy

    latex : $ {\rm TailedGaussian}(F,\mu,\sigma,f,\ell),\ \sigma^2 = a + b\mu $

    parameters :

        F :

            desc : Integral between -inf and +inf
            initial value : 1

        mu :

            desc : Energy of the line
            initial value : 0.0

        a :

            desc : Variance of the width at energy 0
            initial value : 1.0
            min : 0

        b :

            desc : Growth of the variance with energy
            initial value : 0.0
            min : 0

        fraction :

            desc : Share of the counts in the tail
            initial value : 0.2
            min : 0
            max : 1

        length :

            desc : Mean energy loss in the tail
            initial value : 10.0
            min : 1e-6

    tests :
        - { x : 0.0, function value: 0.328403400, tolerance: 1e-8}

    """

    def _set_units(self, x_unit: Unit, y_unit: Unit) -> None:
        self.F.unit = y_unit * x_unit
        self.mu.unit = x_unit
        self.a.unit = x_unit**2
        self.b.unit = x_unit
        self.fraction.unit = ""
        self.length.unit = x_unit

    def evaluate(
        self, x: Energies, F: float, mu: float, a: float, b: float, fraction: float, length: float
    ) -> Energies:
        """Density at x."""
        from ..spectrum.lineshapes import tailed_gaussian_density

        return F * tailed_gaussian_density(x, mu, np.sqrt(a + b * mu), fraction, length)


class LineStep(Function1D, metaclass=FunctionMeta):  # type: ignore[misc,metaclass]
    r"""
    description :

        The step that a line's scattered photons make in the continuum below it

    latex : $ \frac{F s}{2}\,{\rm erfc}\left(\frac{x-\mu}{\sqrt2\sigma}\right) $

    parameters :

        F :

            desc : Integral of the line between -inf and +inf
            initial value : 1

        mu :

            desc : Energy of the line
            initial value : 0.0

        sigma :

            desc : Standard deviation of the line
            initial value : 1.0
            min : 1e-12

        step :

            desc : Height far below the line over the integral of the line
            initial value : 0.001
            min : 0

    tests :
        - { x : 0.0, function value: 0.0005, tolerance: 1e-12}

    """

    def _set_units(self, x_unit: Unit, y_unit: Unit) -> None:
        self.F.unit = y_unit * x_unit
        self.mu.unit = x_unit
        self.sigma.unit = x_unit
        self.step.unit = x_unit**-1

    def evaluate(self, x: Energies, F: float, mu: float, sigma: float, step: float) -> Energies:
        """Density at x."""
        from ..spectrum.lineshapes import step_density

        return F * step_density(x, mu, sigma, step)


class LinearLineStep(Function1D, metaclass=FunctionMeta):  # type: ignore[misc,metaclass]
    r"""
    description :

        The step below a line with a variance that is linear in its energy

    latex : $ {\rm LineStep}(F,\mu,\sigma,s),\ \sigma^2 = a + b\mu $

    parameters :

        F :

            desc : Integral of the line between -inf and +inf
            initial value : 1

        mu :

            desc : Energy of the line
            initial value : 0.0

        a :

            desc : Variance of the width at energy 0
            initial value : 1.0
            min : 0

        b :

            desc : Growth of the variance with energy
            initial value : 0.0
            min : 0

        step :

            desc : Height far below the line over the integral of the line
            initial value : 0.001
            min : 0

    tests :
        - { x : 0.0, function value: 0.0005, tolerance: 1e-12}

    """

    def _set_units(self, x_unit: Unit, y_unit: Unit) -> None:
        self.F.unit = y_unit * x_unit
        self.mu.unit = x_unit
        self.a.unit = x_unit**2
        self.b.unit = x_unit
        self.step.unit = x_unit**-1

    def evaluate(
        self, x: Energies, F: float, mu: float, a: float, b: float, step: float
    ) -> Energies:
        """Density at x."""
        from ..spectrum.lineshapes import step_density

        return F * step_density(x, mu, np.sqrt(a + b * mu), step)


class PowerlawPolynomial(Function1D, metaclass=FunctionMeta):  # type: ignore[misc,metaclass]
    r"""
    description :

        A power law times a polynomial without a linear term, which is the index

    latex : $ K u^{\rm index} \left[1 + c_2 (u-1)^2 + c_3 (u-1)^3\right],\ u = x/{\rm piv} $

    parameters :

        K :

            desc : Density at the pivot
            initial value : 1.0
            is_normalization : True
            transformation : log10
            min : 1e-30

        piv :

            desc : Pivot energy
            initial value : 1.0
            fix : yes

        index :

            desc : Index at the pivot
            initial value : -2.0
            min : -20
            max : 20

        c2 :

            desc : Quadratic coefficient
            initial value : 0.0

        c3 :

            desc : Cubic coefficient
            initial value : 0.0

    tests :
        - { x : 1.0, function value: 1.0, tolerance: 1e-12}

    """

    def _set_units(self, x_unit: Unit, y_unit: Unit) -> None:
        self.K.unit = y_unit
        self.piv.unit = x_unit
        self.index.unit = ""
        self.c2.unit = ""
        self.c3.unit = ""

    def evaluate(
        self, x: Energies, K: float, piv: float, index: float, c2: float, c3: float
    ) -> Energies:
        """Density at x."""
        t = x / piv - 1.0
        return K * (x / piv) ** index * (1.0 + t**2 * (c2 + c3 * t))


#: The function of each kind of component; see `spectrum.components.ROLES`.
FUNCTIONS: dict[str, type[Function1D]] = {
    "powerlaw": Powerlaw,
    "broken_powerlaw": Broken_powerlaw,
    "powerlaw_polynomial": PowerlawPolynomial,
    "gaussian": Gaussian,
    "tailed_gaussian": TailedGaussian,
    "linear_gaussian": LinearGaussian,
    "linear_tailed_gaussian": LinearTailedGaussian,
    "annihilation": AnnihilationLine,
    "step": LineStep,
    "linear_step": LinearLineStep,
}
