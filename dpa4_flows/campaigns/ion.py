"""Campaigns about an ion that moves: the key that names it, and who asks for it."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator

from dpa4_flows.analysis.ions import ion_charge
from dpa4_flows.campaigns.config import Campaign
from dpa4_flows.campaigns.sections import CampaignSection


def _with_a_charge(ion: str) -> str:
    ion_charge(ion)
    return ion


class IonSection(CampaignSection):
    """What is screened, and for which ion."""

    working_ion: Annotated[str, AfterValidator(_with_a_charge)] = "Li"


def ion_of(campaign: Campaign) -> str:
    """The ion of a campaign whose kind has one."""
    section: Any = campaign.campaign
    ion: str = section.working_ion
    return ion
