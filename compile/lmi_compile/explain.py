"""Every kind of error has a code and a page; the code begins with the exit code it ends with."""

from importlib.resources import files

_CODES = {
    "OurBug": "E001",
    "RecipeUnreadable": "E201",
    "RecipeInvalid": "E202",
    "UnknownRecipe": "E203",
    "UnknownToolchain": "E204",
    "UnknownTarget": "E205",
    "GateInvalid": "E206",
    "PromptSetUnknown": "E207",
    "ReferenceInvalid": "E208",
    "ReferenceAmbiguous": "E209",
    "ClickException": "E210",
    "MatrixInvalid": "E211",
    "RequestRefused": "E212",
    "Unsupported": "E301",
    "ModelFault": "E302",
    "RecipeImpossible": "E303",
    "ModelUnreadable": "E304",
    "LimitsTooSmall": "E305",
    "ToolFailed": "E401",
    "VerificationFailed": "E501",
    "VerifyError": "E501",
    "OutputsUnusable": "E502",
    "Malformed": "E503",
    "ProofFailed": "E601",
    "PackageInvalid": "E701",
    "PublishFailed": "E702",
    "PullFailed": "E703",
    "DeployFailed": "E704",
    "EnvironmentFault": "E801",
    "TaskUnavailable": "E801",
    "RegistryUnavailable": "E802",
    "RegistryMisconfigured": "E803",
    "EndpointFailed": "E804",
    "ArtifactNotFound": "E1001",
    "ArtifactRefused": "E1002",
    "ArtifactsError": "E1002",
    "ArtifactRevoked": "E1003",
    "NothingFits": "E1004",
    "Transient": "E7501",
    "RegistryTransient": "E7501",
    "TagMoved": "E7501",
    "Interrupted": "E13001",
}


def code_of(error: BaseException) -> str:
    """The code of an error's nearest kind that has one; what has none is our bug."""
    names = (kind.__name__ for kind in type(error).__mro__)
    return next((_CODES[name] for name in names if name in _CODES), _CODES["OurBug"])


def explained_codes() -> tuple[str, ...]:
    """Every code that has a page, by number."""
    pages = files("lmi_compile").joinpath("explanations").iterdir()
    codes = (page.name.removesuffix(".md") for page in pages if page.name.endswith(".md"))
    return tuple(sorted(codes, key=lambda code: int(code[1:])))


def explanation(code: str) -> str:
    """The page of a code: Markdown, its first line is its title."""
    page = files("lmi_compile").joinpath("explanations", f"{code}.md")
    return page.read_text(encoding="utf-8")
