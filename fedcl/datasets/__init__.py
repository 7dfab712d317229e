"""Data sets by name: where their files are looked for, how they are checked and divided."""

from fedcl.datasets.base import Dataset, DatasetSource, stratified
from fedcl.datasets.digits import Digits
from fedcl.datasets.image_files import ImageFiles, folder
from fedcl.datasets.in_sequence import InSequence
from fedcl.datasets.npz_file import NpzFile

__all__ = [
    "Dataset",
    "DatasetSource",
    "Digits",
    "ImageFiles",
    "InSequence",
    "NpzFile",
    "folder",
    "stratified",
]
