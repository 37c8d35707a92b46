"""The public names and where they are: the list that `__init__.py` imports from when a name is used."""

from dpa4_core.version import __version__ as __version__
from dpa4_flows.campaigns.config import Campaign as Campaign
from dpa4_flows.campaigns.config import load_campaign as load_campaign
from dpa4_flows.campaigns.context import Screening as Screening
from dpa4_flows.campaigns.flow import CampaignMaker as CampaignMaker
from dpa4_flows.campaigns.kind import CampaignKind as CampaignKind
from dpa4_flows.campaigns.run import prepare_run as prepare_run
from dpa4_flows.campaigns.stage import Stage as Stage
from dpa4_flows.engines import run_local as run_local
from dpa4_flows.engines import submit_fireworks as submit_fireworks
from dpa4_flows.functions import *
from dpa4_flows.makers.corrections import CorrectionRefitMaker as CorrectionRefitMaker
from dpa4_flows.makers.elastic_flow import DPA4ElasticMaker as DPA4ElasticMaker
from dpa4_flows.makers.named import *
from dpa4_flows.makers.neb import NebMaker as NebMaker
from dpa4_flows.makers.phonon_flow import DPA4PhononMaker as DPA4PhononMaker
from dpa4_flows.makers.property import PropertyMaker as PropertyMaker
from dpa4_flows.makers.relax import DPA4MDMaker as DPA4MDMaker
from dpa4_flows.makers.relax import DPA4RelaxMaker as DPA4RelaxMaker
from dpa4_flows.makers.relax import DPA4StaticMaker as DPA4StaticMaker
from dpa4_flows.makers.train import EvaluateMaker as EvaluateMaker
from dpa4_flows.makers.train import FineTuneMaker as FineTuneMaker
from dpa4_flows.makers.train import TrainMaker as TrainMaker
from dpa4_flows.model_ref import ModelRef as ModelRef
from dpa4_flows.reference.store import ReferenceStore as ReferenceStore
from dpa4_flows.runs.kinds import open_run as open_run
from dpa4_flows.runs.tracks import TrajectoryReading as TrajectoryReading
from dpa4_flows.runs.tracks import diffusion_in as diffusion_in
from dpa4_flows.store.jobs import complete_job_store as complete_job_store
from dpa4_flows.store.table import ResultsTable as ResultsTable
from dpa4_flows.verbs import compute as compute
from dpa4_flows.verbs import neb as neb
from dpa4_flows.verbs import screen as screen
