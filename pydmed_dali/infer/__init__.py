"""A model over every tile of every slide. Needs the extra `infer` (h5py), for Zarr `zarr`."""

from pydmed_dali.infer.contours import contours as contours
from pydmed_dali.infer.feature_file import FeatureFile as FeatureFile
from pydmed_dali.infer.feature_file import read_features as read_features
from pydmed_dali.infer.heatmap import FeatureGrid as FeatureGrid
from pydmed_dali.infer.heatmap import feature_grid as feature_grid
from pydmed_dali.infer.heatmap import heatmap as heatmap
from pydmed_dali.infer.pdmcsv import Pdmcsv as Pdmcsv
from pydmed_dali.infer.pdmcsv import read_pdmcsv as read_pdmcsv
from pydmed_dali.infer.predict import predict as predict
from pydmed_dali.infer.segment import segment as segment
from pydmed_dali.infer.slide_runner import InferenceResult as InferenceResult
