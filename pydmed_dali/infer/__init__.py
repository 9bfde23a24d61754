"""A model over every tile of every slide. Needs the extra `infer` (h5py)."""

from pydmed_dali.infer.predict import Predicted as Predicted
from pydmed_dali.infer.predict import predict as predict
