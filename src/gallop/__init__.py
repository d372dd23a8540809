"""Gallop: from hyper-parameters to a trained, evaluated and filmed locomotion policy.

Reading order is import order; the README's code tour lists the modules in it.
"""

__version__ = "0.1.0"
