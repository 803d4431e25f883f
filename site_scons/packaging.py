# SPDX-License-Identifier: MIT
"""The targets that install or package a build: install, uninstall, amalgamation, deb."""

import os
from pathlib import Path

from SCons.Script import Action, Alias, AlwaysBuild, Flatten

import amalgamation
import debian_package
import install
import toolchain
from refusal import Refusal


def declare(env, name: str, root: Path, version: str, builds: list, out: str, owner) -> None:
    """Makes the target of that name. Raises Refusal when it cannot be made."""
    if env["SANITIZE"]:
        raise Refusal(f"{name}: this is done without SANITIZE")
    if name != "amalgamation" and len(builds) != 1:
        raise Refusal(f"{name}: this is done with one configuration")
    if name == "deb" and (words := toolchain.flavour(env)):
        raise Refusal(f"{name}: a package has the library's own flags alone: without {', '.join(words)}")
    build = builds[0]

    def always(needs: list, run) -> None:
        AlwaysBuild(Alias(name, needs, Action(lambda target, source, env: run(), lambda *_: "")))

    if name == "deb":
        always([], lambda: debian_package.build(root, version, build, root / out / "deb", env["CC"]))
        return
    if name == "amalgamation":
        # The amalgamation contains the generated headers; it does not need the library.
        texts = [node for each in builds for node in Flatten(each.products) if node.dir.name == "gen"]
        always(texts, lambda: max(amalgamate(root, each) for each in builds))
        return
    library = shared(build)
    installed = install.declare(build.env, root, version, build.config, library, archive(build), build.products, owner)
    if name == "uninstall":
        always([], lambda: install.uninstall(installed, library, owner))
    else:
        always(installed, owner.leave_root)


def archive(build):
    return next(node for node in Flatten(build.products) if node.name == "libhakmem.a")


def shared(build):
    return next(node for node in Flatten(build.products) if node.name.startswith("libhakmem.so."))


def amalgamate(root: Path, build) -> int:
    """SCons' action; 0 or 1."""
    sources = [Path(member.sources[0].srcnode().abspath) for member in archive(build).sources]
    # In the order of the layers, the public functions last.
    sources.sort(key=lambda path: (path.stem in ("malloc", "override"), path.parent != root / "core", str(path)))
    plugins = [Path(str(build.env["PLUGIN_ROOT"]))] if build.env["PLUGIN_ROOT"] else []
    identity = f"hakmem {build.config.frontend}/{build.config.backend} config {build.config.digest}"
    try:
        text = amalgamation.text([root, *plugins, root / build.folder, root / "core/include"], sources, identity)
    except Refusal as error:
        print(f"scons: amalgamation: {error}")
        return 1
    folder = root / build.folder / "amalgamation"
    folder.mkdir(exist_ok=True)
    # hakmem.h, which programs include, comes first.
    headers = sorted((root / "core/include/hakmem").glob("*.h"), key=lambda file: (file.stem != "hakmem", file.stem))
    (folder / "hakmem.h").write_text("\n".join(file.read_text(encoding="utf-8") for file in headers), encoding="utf-8")
    new = folder / "hakmem.c.new"
    new.write_text(text, encoding="utf-8")
    os.replace(new, folder / "hakmem.c")
    print(f"GEN  {build.folder}/amalgamation/hakmem.c")
    return 0
