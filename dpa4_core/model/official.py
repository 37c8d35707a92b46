"""The layout of the official checkpoints: one table of names, one table of options, and the constants they carry.

`from_official` and `to_official` are inverse up to constants that follow from the configuration.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from dpa4_core.errors import DPA4Error
from dpa4_core.model.config import NEWEST_VERSION, BridgeConfig, DPA4Config, NormConfig, RadialConfig
from dpa4_core.model.dpa4 import DPA4
from dpa4_core.model.lora import fold_adapters
from dpa4_core.model.shapes import expected_shapes
from dpa4_core.nn.layout import packed_degrees, reduced_degrees, reduced_index
from dpa4_core.strict import typed

# ours → official, applied in order to the name of one of our parameters; official names start at `atomic_model.`
_NAMES: tuple[tuple[str, str], ...] = (
    (r"^(out_bias|out_std)$", r"\1"),
    (r"^fit_bias$", "fitting_net.bias_atom_e"),
    (r"^fitting\.out$", "fitting_net.filter_layers.networks.0.output_layer.matrix"),
    (r"^fitting\.weights\.(\d+)$", r"fitting_net.filter_layers.networks.0.hidden_layers.\1.linear.matrix"),
    (r"^fitting\.biases\.(\d+)$", r"fitting_net.filter_layers.networks.0.hidden_layers.\1.linear.bias"),
    (r"^species\.table$", "descriptor.type_embedding.adam_type_embedding"),
    (r"^charge_spin\.(charge|spin)$", r"descriptor.charge_spin_embedding.\1_embedding.adam_type_embedding"),
    (r"^charge_spin\.weight$", "descriptor.charge_spin_embedding.mix_layer.matrix"),
    (r"^charge_spin\.bias$", "descriptor.charge_spin_embedding.mix_layer.bias"),
    (r"^basis\.frequencies$", "descriptor.radial_basis.adam_freqs"),
    (r"^film\.species\.table$", "descriptor.env_seed_embedding.env_type_embed.adam_type_embedding"),
    (r"^film\.radial_(\d)$", r"descriptor.env_seed_embedding.rbf_proj_layer\1.matrix"),
    (r"^film\.edge_(\d)$", r"descriptor.env_seed_embedding.g_layer\1.matrix"),
    (r"^film\.out$", "descriptor.env_seed_embedding.output_proj.matrix"),
    (r"^film\.(scale|shift)_norm\.scale$", r"descriptor.film_\1_norm.adam_scale"),
    (r"^film\.log_(scale|shift)$", r"descriptor.film_\1_strength_log"),
    (r"^readout\.", "descriptor.output_ffn."),
    (r"^blocks\.(\d+)\.", r"descriptor.blocks.\1."),
    (r"\.conv_(pre|post)\.", r".\1_so2_norm."),
    (r"\.ffn_(pre|post)\.(\d+)\.", r".\1_ffn_norms.\2."),
    (r"(_norms?(?:\.\d+)?)\.scale$", r"\1.adam_scale"),
    (r"\.conv\.", ".so2_conv."),
    (r"\.so2_conv\.(pre|post)_mix\.weight$", r".so2_conv.\1_focus_mix.weight"),
    (r"\.condition_projection$", ".radial_hidden_proj.weight"),
    (r"\.degree_mixer\.", ".radial_degree_mixer."),
    (r"\.mixing\.(\d+)\.weight_m1$", r".so2_linears.\1.weight_m.0"),
    (r"\.mixing\.(\d+)\.weight_m0$", r".so2_linears.\1.weight_m0"),
    (r"\.gates\.(\d+)$", r".non_linearities.\1.gate_linear.weight"),
    (r"\.focus_norm\.", ".focus_compete_norm."),
    (r"\.focus_weight$", ".adamw_focus_compete_w"),
    (r"\.qk_norm\.", ".attn_qk_norm."),
    (r"\.gate_norm\.", ".attn_output_gate_norm."),
    (r"\.query$", ".attn_q_proj.weight"),
    (r"\.key$", ".attn_k_proj.weight"),
    (r"\.logit_weight$", ".adamw_attn_logit_w"),
    (r"\.floor_raw$", ".adamw_attn_z_bias_raw"),
    (r"\.gate_weight$", ".adamw_attn_gate_w"),
    (r"\.message_node\.(frame_expand|frame_contract|scalar_gate)$", r".message_node_grid_product.\1.weight"),
    (r"\.message_node\.residual_scale$", ".message_node_grid_product.residual_scale"),
    (r"\.expand\.weight$", ".so3_linear_1.weight"),
    (r"\.contract\.weight$", ".so3_linear_2.weight"),
    (r"\.product\.scalar_gate$", ".act.scalar_gate.weight"),
    (r"\.product\.(left|right|out)$", r".act.grid_op.\1_proj.weight"),
    (r"\.product\.router$", ".act.grid_op.router.weight"),
)

# options outside the released models: the value that means "off"
_OFF: dict[str, Any] = {
    "l_schedule": None,
    "m_schedule": None,
    "extra_node_l": 0,
    "so2_norm": False,
    "so2_attn_res": "none",
    "full_attn_res": "none",
    "block_attn_res": "none",
    "atten_f_mix": False,
    "atten_v_proj": False,
    "atten_o_proj": False,
    "edge_cartesian": False,
    "node_cartesian": "none",
    "node_wise_s2": False,
    "node_wise_so3": False,
    "message_node_s2": False,
    "mlp_bias": False,
    "layer_scale": False,
    "n_atten_head": 1,
    "lebedev_quadrature": True,
    "activation_function": "silu",
    "glu_activation": True,
    "use_env_seed": True,
    "readout_layers": 1,
    "exclude_types": [],
}
_Flags = tuple[bool, bool, bool]
_TYPES: dict[str, Any] = {
    **dict.fromkeys(("channels", "lmax", "mmax", "kmax", "n_blocks", "mixing_layers", "so2_layers", "n_focus"), int),
    **dict.fromkeys(("focus_dim", "radial_so2_rank", "ffn_blocks", "ffn_neurons", "n_radial"), int),
    **dict.fromkeys(("message_node_so3", "ffn_so3_grid", "add_chg_spin_ebd"), bool),
    **dict.fromkeys(("radial_so2_mode", "so3_readout", "basis_type"), str),
    **dict.fromkeys(("rcut", "eps"), float),
    "radial_mlp": tuple[int, ...],
    "env_exp": int | tuple[int, int],
    "edge_norm": bool | _Flags,
    "grid_mlp": bool | _Flags,
    "grid_branch": int | tuple[int, int, int],
    "s2_activation": tuple[bool, bool],
    "sandwich_norm": tuple[bool, bool, bool, bool],
    "default_chg_spin": tuple[float, float] | None,
}
"""Types of the descriptor options that are read; their bounds are those of `DPA4Config`."""
# keys that do not change the function
_INERT = {"type", "sel", "seed", "precision", "use_amp", "random_gamma", "trainable", "type_map", "ntypes"}
_FITTING_OFF: dict[str, Any] = {
    "type": "dpa4_ener",
    "numb_fparam": 0,
    "numb_aparam": 0,
    "dim_case_embd": 0,
    "default_fparam": None,
    "activation_function": "silu",
    "resnet_dt": False,
    "atom_ener": [],
    "use_aparam_as_mask": False,
    "case_film_embd": False,
    "exclude_types": [],
}
_FITTING_INERT = {
    "neuron",
    "precision",
    "seed",
    "trainable",
    "rcond",
    "type_map",
    "ntypes",
    "dim_descrpt",
    "mixed_types",
}
_MODEL_OFF: dict[str, Any] = {
    "pair_exclude_types": [],
    "atom_exclude_types": [],
    "spin": None,
    "preset_out_bias": None,
    "use_srtab": None,
    "lora": None,
}
_MODEL_INERT = {
    *("type", "type_map", "descriptor", "fitting_net", "info", "bridging_method", "bridging_r_inner"),
    *("bridging_r_outer", "use_compile", "enable_tf32", "data_stat_nbatch", "data_stat_protect", "data_bias_nsample"),
    *("srtab_add_bias", "model_branch_alias", "finetune_head", "hessian_mode"),
}

_CONSTANTS = re.compile(
    r"(?:^|\.)(expand_index|balance_weight|coeff_index_m|degree_index_m|rotate_inv_rescale_full|m0_idx|pos_indices|neg_indices"
    r"|kernel_compact_index|kernel_dense_index|wigner_calc\..*|gie\..*|mean|stddev|_empty_tensor|min_nbor_dist"
    r"|dens_force_rmsd|atomic_numbers|version_tensor)$"
)


def official_name(name: str, config: DPA4Config) -> str:
    """Name that a parameter or buffer of `DPA4` has in an official checkpoint, without the branch prefix."""
    if match := re.match(r"^radial\.(weights|norms)\.(\d+)(?:\.scale)?$", name):
        # the official MLP numbers linear, norm and activation consecutively
        stride = 3 if config.norms.radial else 2
        position = stride * int(match[2])
        entry = f"{position}.matrix" if match[1] == "weights" else f"{position + 1}.adam_scale"
        return f"atomic_model.descriptor.radial_embedding.net.{entry}"
    for pattern, replacement in _NAMES:
        name = re.sub(pattern, replacement, name)
    return f"atomic_model.{name}"


def _triple(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value] * 3


def _effective_one(option: str, value: Any, lmax: int) -> None:
    """Orders kept by the released models are one; a larger value with lmax = 1 means the same."""
    if min(value, lmax) != 1:
        raise DPA4Error(
            f"option {option}={value!r} is outside the released DPA4 models and is not supported; only 1 is"
        )


def config_from_official(params: dict[str, Any], version: float) -> DPA4Config:
    """Our configuration from ``model_params`` of an official checkpoint.

    Raises:
        DPA4Error: an option that no released model uses, or one that is not known; the message names it.
    """
    kind = str(params.get("type", "dpa4")).lower()
    if kind not in ("dpa4", "sezm"):
        raise DPA4Error(f"model type {kind!r} is not DPA4; only checkpoints of type 'dpa4' can be loaded")
    fitting = typed(dict[str, Any], params.get("fitting_net", {}), "fitting_net")
    _refuse_unknown("fitting_net", _take_off("fitting_net", fitting, _FITTING_OFF), _FITTING_INERT)
    lora_free = {key: value for key, value in params.items() if key != "lora"}  # adapters are folded in
    _refuse_unknown("model", _take_off("model", lora_free, _MODEL_OFF), _MODEL_INERT)
    if lacking := [key for key in ("descriptor", "type_map") if key not in params]:
        raise DPA4Error(f"the checkpoint lacks {lacking[0]!r} among its model_params")
    given = _take_off("descriptor", typed(dict[str, Any], params["descriptor"], "descriptor"), _OFF)
    for option in given.keys() & _TYPES.keys():
        given[option] = typed(_TYPES[option], given[option], f"descriptor option {option}")
    lmax, channels = given.pop("lmax", 3), given.pop("channels", 64)
    _effective_one("mmax", given.pop("mmax", 1), lmax)
    _effective_one("kmax", given.pop("kmax", 1), lmax)
    if (width := given.pop("focus_dim", 0)) not in (0, channels):
        raise DPA4Error(
            f"descriptor option focus_dim={width!r} is outside the released DPA4 models; only 0 is supported"
        )
    layers = given.pop("mixing_layers", 4)
    layers = given.pop("so2_layers", layers)

    mode, rank = given.pop("radial_so2_mode", "degree_channel"), given.pop("radial_so2_rank", 1)
    if mode not in ("none", "degree_channel") or (mode == "degree_channel" and rank < 1):
        raise DPA4Error(f"descriptor option radial_so2_mode={mode!r} with radial_so2_rank={rank} is not supported")

    message_node = given.pop("message_node_so3", False)
    grid_mlp, grid_branch = _triple(given.pop("grid_mlp", False)), _triple(given.pop("grid_branch", 0))
    if message_node and (grid_branch[1] or grid_mlp[1]):
        raise DPA4Error(f"descriptor option grid_branch={grid_branch} on the message-node product is not supported")
    if grid_branch[2] not in (0, 1) or (grid_mlp[2] and not grid_branch[2]):
        raise DPA4Error(
            f"descriptor options grid_branch={grid_branch}, grid_mlp={grid_mlp} are not supported in the FFN"
        )
    s2_activation = list(given.pop("s2_activation", [False, True]))
    rotations = given.pop("ffn_so3_grid", False)
    if s2_activation[0] or not (rotations or s2_activation[1]):
        raise DPA4Error(f"descriptor option s2_activation={s2_activation} is not supported; only [False, True] is")
    readout = given.pop("so3_readout", "none")
    if readout not in ("none", "mlp"):
        raise DPA4Error(f"descriptor option so3_readout={readout!r} is not supported; only 'none' and 'mlp' are")

    default_charge_spin = given.pop("default_chg_spin", None)
    charge_spin = None
    if given.pop("add_chg_spin_ebd", False):
        charge, spin = default_charge_spin or (0, 1)
        charge_spin = (int(charge), int(spin))
    bridge = None
    if str(params.get("bridging_method", "none")).lower() == "zbl":
        radii = (params.get("bridging_r_inner", 0.5), params.get("bridging_r_outer", 0.8))
        bridge = BridgeConfig(*(typed(float, radius, "bridging_r_inner and bridging_r_outer") for radius in radii))
    elif str(params.get("bridging_method", "none")).lower() != "none":
        raise DPA4Error(f"option bridging_method={params['bridging_method']!r} is not supported; only 'zbl' is")

    config = DPA4Config(
        elements=typed(tuple[str, ...], params["type_map"], "type_map"),
        cutoff=given.pop("rcut", 6.0),
        channels=channels,
        lmax=lmax,
        n_blocks=given.pop("n_blocks", 3),
        mixing_layers=layers,
        mixer_rank=rank if mode == "degree_channel" else 0,
        n_focus=given.pop("n_focus", 1),
        message_node=message_node,
        ffn_blocks=given.pop("ffn_blocks", 1),
        ffn_hidden=given.pop("ffn_neurons", 0),
        ffn_grid="rotations" if rotations else "sphere",
        ffn_product="branch" if grid_branch[2] else "glu",
        readout=readout,
        fitting_hidden=typed(tuple[int, ...], fitting.get("neuron", [0]), "fitting_net option neuron"),
        radial=_radial_from_official(given),
        norms=_norms_from_official(given),
        charge_spin=charge_spin,
        bridge=bridge,
        version=version,
        eps=given.pop("eps", 1e-7),
    )
    _refuse_unknown("descriptor", given, _INERT)
    return config


def _holds_tensors(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_holds_tensors(item) for item in value.values())
    if isinstance(value, list | tuple | set):
        return any(_holds_tensors(item) for item in value)
    return isinstance(value, Tensor)


def _take_off(place: str, options: dict[str, Any], off: dict[str, Any]) -> dict[str, Any]:
    """``options`` without those in ``off``, each of which must have the value that means "off"."""
    rest = dict(options)
    for option, neutral in off.items():
        value = rest.pop(option, neutral)
        if value != neutral and not (isinstance(value, (list, tuple)) and list(value) == neutral):
            raise DPA4Error(
                f"{place} option {option}={value!r} is outside the released DPA4 models and is not supported; "
                f"only {neutral!r} is"
            )
    return rest


def _refuse_unknown(place: str, options: dict[str, Any], inert: set[str]) -> None:
    """An option that is not known may only be there switched off."""
    for option, value in options.items():
        if option not in inert and value not in (None, False, 0, "none", "", [], {}):
            raise DPA4Error(f"unknown {place} option {option}={value!r} in the checkpoint")


def _radial_from_official(given: dict[str, Any]) -> RadialConfig:
    basis, _, fixed = given.pop("basis_type", "bessel").partition("/")
    if basis not in ("bessel", "gaussian") or fixed not in ("", "fix"):
        raise DPA4Error(f"descriptor option basis_type={basis!r} is not supported; only 'bessel' and 'gaussian' are")
    exponents = given.pop("env_exp", [7, 5])
    on_basis, on_message = exponents if isinstance(exponents, (list, tuple)) else (0, exponents)
    return RadialConfig(
        basis=basis,
        n_radial=given.pop("n_radial", 16),
        trainable=not fixed,
        hidden=tuple(given.pop("radial_mlp", [0])),
        basis_envelope=on_basis or None,
        message_envelope=on_message,
    )


def _norms_from_official(given: dict[str, Any]) -> NormConfig:
    radial, film, focus = (bool(v) for v in _triple(given.pop("edge_norm", True)))
    sandwich = [bool(v) for v in given.pop("sandwich_norm", [False, True, True, False])]
    return NormConfig(radial, film, focus, *sandwich)


def params_to_official(config: DPA4Config, precision: str, about: dict[str, Any]) -> dict[str, Any]:
    """``model_params`` of an official checkpoint that builds the same function; ``about`` goes into its ``info``."""
    norms, radial = config.norms, config.radial
    edge_norm: Any = [norms.radial, norms.film, norms.focus]
    if len(set(edge_norm)) == 1:
        edge_norm = edge_norm[0]
    descriptor: dict[str, Any] = {
        "type": "dpa4",
        "sel": 416,
        "rcut": config.cutoff,
        "env_exp": [radial.basis_envelope or 0, radial.message_envelope],
        "channels": config.channels,
        "basis_type": radial.basis if radial.trainable else f"{radial.basis}/fix",
        "n_radial": radial.n_radial,
        "radial_mlp": list(radial.hidden),
        "use_env_seed": True,
        "random_gamma": True,
        "edge_norm": edge_norm,
        "lmax": config.lmax,
        "mmax": 1,
        "kmax": 1,
        "n_blocks": config.n_blocks,
        "mixing_layers": config.mixing_layers,
        "radial_so2_mode": "degree_channel" if config.mixer_rank else "none",
        "radial_so2_rank": config.mixer_rank or 1,
        "n_focus": config.n_focus,
        "focus_dim": 0,
        "n_atten_head": 1,
        "message_node_so3": config.message_node,
        "ffn_neurons": config.ffn_hidden,
        "ffn_blocks": config.ffn_blocks,
        "ffn_so3_grid": config.ffn_grid == "rotations",
        "grid_mlp": False,
        "grid_branch": [0, 0, 1 if config.ffn_product == "branch" else 0],
        "s2_activation": [False, True],
        "so3_readout": config.readout,
        "sandwich_norm": [norms.conv_pre, norms.conv_post, norms.ffn_pre, norms.ffn_post],
        "add_chg_spin_ebd": config.charge_spin is not None,
        "precision": precision,
        "eps": config.eps,
    }
    if config.charge_spin is not None:
        descriptor["default_chg_spin"] = [float(v) for v in config.charge_spin]
    params: dict[str, Any] = {
        "type": "dpa4",
        "type_map": list(config.elements),
        "descriptor": descriptor,
        "fitting_net": {"type": "dpa4_ener", "neuron": list(config.fitting_hidden), "precision": precision},
        "info": about,
        "bridging_method": "zbl" if config.bridge else "None",
    }
    if config.bridge is not None:
        params |= {"bridging_r_inner": config.bridge.inner, "bridging_r_outer": config.bridge.outer}
    return params


def select_branch(state: dict[str, Any], head: str | None) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Parameters and tensors of one model in a checkpoint, tensors without the ``model.<branch>.`` prefix.

    Raises:
        DPA4Error: a multi-task file without a choice of branch, or an unknown branch.
    """
    params = state["_extra_state"]["model_params"]
    if _holds_tensors(params):
        raise DPA4Error("model_params of the checkpoint hold tensors where options belong")
    branches = typed(dict[str, dict[str, Any]] | None, params.get("model_dict"), "model_dict")
    branch = head or "Default"
    if branches is not None:
        if head not in branches:
            raise DPA4Error(
                f"checkpoint holds the branches {', '.join(branches)}; choose one by appending '#NAME' to its path"
            )
        params = branches[head]
    elif head is not None:
        raise DPA4Error(f"checkpoint has a single branch, but {head!r} was asked for; leave out '#{head}'")
    prefix = f"model.{branch}."
    others = tuple(f"model.{name}." for name in branches or () if name != branch)
    tensors = {}
    for key, value in state.items():
        name = str(key)
        if name == "_extra_state" or name.startswith(others):
            continue
        if not name.startswith(prefix):
            raise DPA4Error(f"checkpoint has the unknown entry {key!r} outside of {prefix}*")
        if not isinstance(value, Tensor):
            raise DPA4Error(f"entry {key!r} of the checkpoint is no tensor")
        tensors[name.removeprefix(prefix)] = value
    return params, tensors


def from_official(
    state: dict[str, Any], dtype: torch.dtype | None, head: str | None = None
) -> tuple[DPA4, dict[str, Any]]:
    """Model and its ``model_params`` from the state of an official checkpoint; adapters are folded in.

    Args:
        dtype: precision of the model; None keeps that of the stored weights.
        head: branch of a multi-task checkpoint.

    Raises:
        DPA4Error: unsupported options, missing or unknown tensors, wrong shapes; the message names them.
    """
    params, tensors = select_branch(state, head)
    stored = tensors.get("atomic_model.descriptor.version_tensor", torch.tensor(1.0))
    if stored.numel() != 1:
        raise DPA4Error("the descriptor version of the checkpoint is no single number")
    version = float(stored)
    if version > NEWEST_VERSION:
        raise DPA4Error(f"descriptor version {version} is newer than {NEWEST_VERSION}, the newest known here")
    config = config_from_official(params, version)
    precision = tensors.get(official_name("species.table", config), torch.zeros(0)).dtype
    tensors = fold_adapters(tensors)
    own: dict[str, Tensor] = {}
    for name, shape in expected_shapes(config).items():  # before anything is built
        official = official_name(name, config)
        if official not in tensors:
            raise DPA4Error(f"checkpoint lacks the tensor {official!r} that its configuration asks for")
        value = own[name] = tensors.pop(official)
        if value.shape != shape:
            raise DPA4Error(f"tensor {official!r} has shape {tuple(value.shape)}, expected {tuple(shape)}")
        if not value.is_floating_point() or not bool(torch.isfinite(value).all()):
            raise DPA4Error(f"tensor {official!r} holds values that are not finite numbers; use another checkpoint")
    unknown = [key for key in tensors if not _CONSTANTS.search(key)]
    if unknown:
        raise DPA4Error(f"checkpoint has the unknown tensor {unknown[0]!r} and {len(unknown) - 1} more unknown ones")
    if dtype is None and precision not in (torch.float32, torch.float64):
        precision = torch.float32
    model = DPA4(config, dtype or precision)
    dtypes = {name: target.dtype for name, target in model.state_dict().items()}
    model.load_state_dict({name: value.to(dtypes[name]) for name, value in own.items()})
    return model, params


def to_official(model: DPA4, about: dict[str, Any], training: dict[str, Any]) -> dict[str, Any]:
    """The state of an official checkpoint with the same function, constants included.

    Args:
        about: plain JSON for ``model_params["info"]``, ``observed_type`` among it.
        training: ``lr`` and ``step`` of the training run.
    """
    config = model.config
    tensors = {official_name(name, config): value for name, value in model.state_dict().items()}
    tensors |= dict(_constants(config))
    state: dict[str, Any] = {
        f"model.Default.{name}": value.detach().cpu().clone().contiguous() for name, value in tensors.items()
    }
    state["_extra_state"] = {
        "model_params": params_to_official(config, str(model.dtype).removeprefix("torch."), about),
        "train_infos": {"lr": training.get("lr", 0), "step": training.get("step", 0)},
    }
    return state


def _constants(config: DPA4Config) -> Iterator[tuple[str, Tensor]]:
    """Index and weight tables that the official layout stores beside the weights."""
    lmax, channels = config.lmax, config.channels
    degrees, reduced = packed_degrees(lmax), reduced_degrees(lmax)
    n_0 = lmax + 1
    rescale = torch.where(degrees > 1, ((2 * degrees + 1).double() / 3.0).sqrt(), 1.0).float()
    d = "atomic_model.descriptor."
    yield "min_nbor_dist", torch.tensor(-1.0, dtype=torch.float64)
    yield "atomic_model.dens_force_rmsd", torch.tensor(1.0, dtype=torch.float64)
    if config.version != 1.0:
        yield d + "version_tensor", torch.tensor(config.version, dtype=torch.float64)
    yield d + "mean", torch.zeros(0)
    yield d + "stddev", torch.zeros(0)
    yield d + "wigner_calc.l1_perm", torch.tensor([1, 2, 0])
    sign = torch.tensor([1.0, 1.0, -1.0])
    yield d + "wigner_calc.l1_sign_outer", sign[:, None] * sign[None, :]
    yield d + "gie.non_scalar_row_index", torch.arange(1, (lmax + 1) ** 2)
    yield d + "gie.zonal_m0_col_index_for_row", (degrees**2 + degrees)[1:]
    yield d + "gie.radial_slot_index_for_row", degrees[1:] - 1
    if config.bridge is not None:
        yield "inter_potential.atomic_numbers", torch.tensor(config.atomic_numbers, dtype=torch.float64)

    def norm(name: str, present: bool) -> Iterator[tuple[str, Tensor]]:
        if present:
            yield name + ".expand_index", degrees
            weight = 1.0 / ((2 * degrees + 1) * (lmax + 1) * channels).double()
            yield name + ".balance_weight", weight.float()

    for index in range(config.n_blocks):
        b = f"{d}blocks.{index}."
        yield from norm(b + "pre_so2_norm", config.norms.conv_pre)
        yield from norm(b + "post_so2_norm", config.norms.conv_post)
        conv = b + "so2_conv."
        yield conv + "coeff_index_m", reduced_index(lmax)
        yield conv + "degree_index_m", reduced
        yield conv + "rotate_inv_rescale_full", rescale
        for layer in range(config.mixing_layers):
            linear = f"{conv}so2_linears.{layer}."
            yield linear + "m0_idx", torch.arange(n_0)
            yield linear + "neg_indices", torch.arange(n_0, n_0 + lmax)
            yield linear + "pos_indices", torch.arange(n_0 + lmax, n_0 + 2 * lmax)
            if layer < config.mixing_layers - 1:
                yield f"{conv}non_linearities.{layer}.expand_index", reduced[1:] - 1
        if config.mixer_rank:
            mixer, size = conv + "radial_degree_mixer.", 3 * lmax + 1
            compact, dense = _kernel_indices(lmax, size)
            yield mixer + "kernel_compact_index", compact
            yield mixer + "kernel_dense_index", dense
        yield conv + "pre_focus_mix.expand_index", degrees
        yield conv + "post_focus_mix.expand_index", degrees
        for branch in range(config.ffn_blocks):
            yield from norm(f"{b}pre_ffn_norms.{branch}", config.norms.ffn_pre)
            yield from norm(f"{b}post_ffn_norms.{branch}", config.norms.ffn_post)
            yield f"{b}ffns.{branch}.so3_linear_1.expand_index", degrees
            yield f"{b}ffns.{branch}.so3_linear_2.expand_index", degrees
    out_degrees = degrees if config.readout == "mlp" else torch.zeros(1, dtype=torch.int64)
    yield d + "output_ffn.so3_linear_1.expand_index", out_degrees
    yield d + "output_ffn.so3_linear_2.expand_index", out_degrees
    if config.readout == "none":
        yield d + "output_ffn.act.expand_index", torch.zeros(0, dtype=torch.int64)


def _kernel_indices(lmax: int, size: int) -> tuple[Tensor, Tensor]:
    """Positions of the degree-mixer kernel, compact and in the dense [Dm, Dm] matrix of (l_in, l_out)."""
    compact, dense = [], []
    start = 0
    for order, blocks in ((0, (0,)), (1, (lmax + 1, 2 * lmax + 1))):
        n = lmax + 1 - order
        for offset in blocks:
            for entry in range(n * n):
                l_in, l_out = divmod(entry, n)
                compact.append(start + entry)
                dense.append((offset + l_out) * size + offset + l_in)
        start += n * n
    return torch.tensor(compact), torch.tensor(dense)
