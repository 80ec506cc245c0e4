"""The layers of DiffuMIN and its peers, one a file; each can be used in any Keras 2 model."""

from diffumin_tf.layers.activation_unit import ActivationUnit
from diffumin_tf.layers.attention import MultiHeadAttention, TransformerBlock
from diffumin_tf.layers.batch_norm import BatchNorm
from diffumin_tf.layers.candidate_projection import FieldAlignedProjection
from diffumin_tf.layers.channel_share import ChannelShare
from diffumin_tf.layers.cmic import ContrastiveMultiInterestCalibrator
from diffumin_tf.layers.denoiser import Denoiser
from diffumin_tf.layers.dice import Dice
from diffumin_tf.layers.dmig import DiffusionMultiInterestGenerator
from diffumin_tf.layers.dropout import SeededDropout
from diffumin_tf.layers.field_aligned_channels import FieldAlignedChannels
from diffumin_tf.layers.id_embedding import IdEmbedding
from diffumin_tf.layers.interest_summary import InterestSummary
from diffumin_tf.layers.noise_schedule import NoiseSchedule
from diffumin_tf.layers.omie import Interests, OrthogonalMultiInterestExtractor
from diffumin_tf.layers.random_stream import RandomStream
from diffumin_tf.layers.sampled_hash_attention import SampledHashAttention
from diffumin_tf.layers.sim_hash import SimHash
from diffumin_tf.layers.soft_search import SoftSearch
from diffumin_tf.layers.tower import Tower
from diffumin_tf.layers.transformer_encoder import TransformerEncoder
from diffumin_tf.layers.twin_attention import TwinAttention

__all__ = [
    "ActivationUnit",
    "BatchNorm",
    "ChannelShare",
    "ContrastiveMultiInterestCalibrator",
    "Denoiser",
    "Dice",
    "DiffusionMultiInterestGenerator",
    "FieldAlignedChannels",
    "FieldAlignedProjection",
    "IdEmbedding",
    "InterestSummary",
    "Interests",
    "MultiHeadAttention",
    "NoiseSchedule",
    "OrthogonalMultiInterestExtractor",
    "RandomStream",
    "SampledHashAttention",
    "SeededDropout",
    "SimHash",
    "SoftSearch",
    "Tower",
    "TransformerBlock",
    "TransformerEncoder",
    "TwinAttention",
]
