# SPDX-License-Identifier: MIT
"""The targets that hand a build on: install, uninstall, amalgamation, deb."""

import os
from pathlib import Path
from typing import NamedTuple

from SCons.Script import Action, Alias, AlwaysBuild, Flatten

import amalgamation
import configuration
import debian_package
import install
import toolchain

TARGETS = {"install", "uninstall", "amalgamation", "deb"}


class PackagingError(Exception):
    pass


class Product(NamedTuple):
    """A build."""

    name: str
    folder: str
    config: configuration.Configuration
    env: object
    products: list


def define(env, wanted: "set[str]", root: Path, version: str, built: "list[Product]", out: str, owner) -> None:
    """Makes the targets among `wanted`; `out` is the folder of builds. Raises PackagingError when they cannot be
    made."""
    if not wanted:
        return
    single = sorted(wanted - {"amalgamation"})
    if env["SANITIZE"]:
        raise PackagingError(f"{', '.join(sorted(wanted))}: this is done without SANITIZE")
    if single and len(built) != 1:
        raise PackagingError(f"{', '.join(single)}: this is done with one configuration")
    product = built[0]
    try:
        where = install.places(env)
    except install.InstallError as error:
        raise PackagingError(error) from None

    strip = install.strip_tool(env["AR"]) if env["STRIP"] else ""
    try:
        if strip and "install" in wanted:
            toolchain.require("STRIP", strip, "binutils")
    except toolchain.ToolError as error:
        raise PackagingError(error) from None
    found = install.items(root, root / product.folder, where, version, product.config)

    def as_root(action) -> int:
        with owner.as_root():
            return install.act(action, found, where, strip)

    run = {
        "install": lambda: as_root(install.install),
        "uninstall": lambda: as_root(install.uninstall),
        "amalgamation": lambda: max(amalgamate(root, product) for product in built),
        "deb": lambda: debian_package.build(root, version, product, root / out / "deb", env["CC"]),
    }
    # What is generated for a build is a part of its amalgamation; its library is not.
    texts = [node for product in built for node in Flatten(product.products) if node.dir.name == "gen"]
    needs = {"install": product.products, "amalgamation": texts}
    for name in sorted(wanted):
        command = Action(lambda target, source, env, run=run[name]: run(), lambda *_: "")
        AlwaysBuild(Alias(name, needs.get(name, []), command))


def amalgamate(root: Path, product: Product) -> int:
    """SCons' action; 0 or 1."""
    build = root / product.folder
    archive = next(node for node in Flatten(product.products) if node.name == "libhakmem.a")
    # In the order of the layers, the public functions last.
    sources = sorted(
        (Path(member.sources[0].srcnode().abspath) for member in archive.sources),
        key=lambda path: (path.stem in ("malloc", "override"), path.parent != root / "core", str(path)),
    )
    folders = [root, *([Path(str(product.env["PLUGIN_ROOT"]))] if product.env["PLUGIN_ROOT"] else []), build]
    folders.append(root / "core/include")
    shown = {}
    for path in [*sources, *sources[0].parent.glob("*.c")]:
        for folder in folders[:-1]:
            if folder in path.parents:
                shown[path] = str(path.relative_to(folder))
                break
    try:
        text = amalgamation.write(
            sources,
            folders,
            shown,
            f"hakmem {product.config.frontend}/{product.config.backend} config {product.config.digest}",
            (root / "LICENSE").read_text(encoding="utf-8"),
        )
    except amalgamation.AmalgamationError as error:
        print(f"scons: amalgamation: {error}")
        return 1
    folder = build / "amalgamation"
    folder.mkdir(exist_ok=True)
    # What programs include comes first, what is beside it after it.
    headers = sorted((root / "core/include/hakmem").glob("*.h"), key=lambda file: (file.stem != "hakmem", file.stem))
    interface = "\n".join(file.read_text(encoding="utf-8") for file in headers)
    (folder / "hakmem.h").write_text(interface, encoding="utf-8")
    new = folder / "hakmem.c.new"
    new.write_text(text, encoding="utf-8")
    os.replace(new, folder / "hakmem.c")
    print(f"GEN  {product.folder}/amalgamation/hakmem.c")
    return 0
