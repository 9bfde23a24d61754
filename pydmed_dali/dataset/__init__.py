"""Who is in a study: patients, the slides of each, and their labels. Opens no slide."""

from pydmed_dali.dataset.dataset import Dataset
from pydmed_dali.dataset.listing import SLIDE_EXTENSIONS
from pydmed_dali.dataset.patient import Label, Patient, Record, TissueArea

__all__ = ["SLIDE_EXTENSIONS", "Dataset", "Label", "Patient", "Record", "TissueArea"]
