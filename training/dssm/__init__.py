"""Deep state-space models behind one interface (thesis, chapter 4)."""

from training.dssm.batch import SequenceBatch
from training.dssm.dks import DKS, DKSConfig
from training.dssm.dvbs import DVBS, DVBSConfig
from training.dssm.ekvae import EKVAE, EKVAEConfig
from training.dssm.kvae import KVAE, KVAEConfig
from training.dssm.model import SequenceTerms, States, StateSpaceModel
from training.dssm.pretraining import Pretrained, Pretraining, pretrain
from training.dssm.rssm import RSSM, RSSMConfig
from training.dssm.storage import build, load, save

__all__ = [
    "DKS",
    "DVBS",
    "EKVAE",
    "KVAE",
    "RSSM",
    "DKSConfig",
    "DVBSConfig",
    "EKVAEConfig",
    "KVAEConfig",
    "Pretrained",
    "Pretraining",
    "RSSMConfig",
    "SequenceBatch",
    "SequenceTerms",
    "StateSpaceModel",
    "States",
    "build",
    "load",
    "pretrain",
    "save",
]
