"""The layers of DiffuMIN and its peers, one a file; each can be used in any Keras 2 model."""

from diffumin_tf.layers.attention import MultiHeadAttention, TransformerBlock
from diffumin_tf.layers.batch_norm import BatchNorm
from diffumin_tf.layers.candidate_projection import FieldAlignedProjection
from diffumin_tf.layers.dice import Dice
from diffumin_tf.layers.diffumin.channel_share import ChannelShare
from diffumin_tf.layers.diffumin.cmic import ContrastiveMultiInterestCalibrator
from diffumin_tf.layers.diffumin.denoiser import Denoiser
from diffumin_tf.layers.diffumin.diffusion import DenoiserConfig, Diffusion
from diffumin_tf.layers.diffumin.dmig import DiffusionMultiInterestGenerator
from diffumin_tf.layers.diffumin.field_aligned_channels import FieldAlignedChannels
from diffumin_tf.layers.diffumin.interest_summary import InterestSummary
from diffumin_tf.layers.diffumin.noise_schedule import NoiseSchedule
from diffumin_tf.layers.diffumin.omie import Interests, OrthogonalMultiInterestExtractor
from diffumin_tf.layers.dropout import SeededDropout
from diffumin_tf.layers.id_embedding import IdEmbedding
from diffumin_tf.layers.peers.activation_unit import ActivationUnit
from diffumin_tf.layers.peers.sampled_hash_attention import SampledHashAttention
from diffumin_tf.layers.peers.sim_hash import SimHash
from diffumin_tf.layers.peers.soft_search import SoftSearch
from diffumin_tf.layers.peers.twin_attention import TwinAttention
from diffumin_tf.layers.random_stream import RandomStream
from diffumin_tf.layers.tower import Tower
from diffumin_tf.layers.transformer_encoder import TransformerEncoder

__all__ = [
    "ActivationUnit",
    "BatchNorm",
    "ChannelShare",
    "ContrastiveMultiInterestCalibrator",
    "Denoiser",
    "DenoiserConfig",
    "Dice",
    "Diffusion",
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
