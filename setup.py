"""Everything static stands in pyproject.toml; optional compiled extensions are declared here."""

from setuptools import setup

setup()
