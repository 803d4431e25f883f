# SPDX-License-Identifier: MIT
"""`scons install` and `scons uninstall`: what goes where, and what tells other build systems about it.

SCons installs; uninstall removes what install has put there, and nothing else."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from SCons.Tool.install import installShlibLinks

import toolchain
from refusal import Refusal

TEMPLATES = {"hakmem.pc": "pkgconfig", "hakmem-config.cmake": "cmake/hakmem", "hakmem-config-version.cmake": "cmake/hakmem"}


class Places(NamedTuple):
    """Where things go. All are absolute and normal; `destdir`, of which no file says anything, may be empty."""

    prefix: str
    libdir: str
    includedir: str
    destdir: str


def places(env) -> Places:
    """From PREFIX, LIBDIR, INCLUDEDIR and DESTDIR. Raises Refusal for what cannot be."""

    def path(name: str, default: str) -> str:
        value = env[name] or default
        if value and not value.startswith("/"):
            raise Refusal(f"{name}={value}: this must be an absolute path")
        # Spaces and the like mean something in pkg-config's and CMake's files.
        if name != "DESTDIR" and not re.fullmatch(r"[\w/.+:@~-]+", value):
            raise Refusal(f"{name}={value}: only letters, digits and any of / . _ + : @ ~ - may be in it")
        normal = os.path.normpath("/" + value.lstrip("/")) if value else ""
        return "" if normal == "/" and name == "DESTDIR" else normal

    prefix = path("PREFIX", "/usr/local")
    below = prefix.rstrip("/")
    return Places(prefix, path("LIBDIR", f"{below}/lib"), path("INCLUDEDIR", f"{below}/include"), path("DESTDIR", ""))


def substitutions(where: Places, version: str, config) -> "dict[str, str]":
    """What stands in the templates in place of @NAME@."""

    def below_prefix(path: str) -> str:  # as pkg-config's files write it
        prefix = where.prefix.rstrip("/") + "/"
        return "$${prefix}/" + path.removeprefix(prefix) if path.startswith(prefix) else path

    numbers = version.split(".")
    values = {
        "prefix": where.prefix,
        "pc_libdir": below_prefix(where.libdir),
        "pc_includedir": below_prefix(where.includedir),
        "relative_includedir": os.path.relpath(where.includedir, where.libdir),
        "frontend": config.frontend,
        "backend": config.backend,
        "names": "libc hak" if "OVERRIDE_LIBC" in config.enabled else "hak",  # malloc and the rest, or hak_malloc alone
        "config_digest": config.digest,
        "version": version,
        "major": numbers[0],
        "compatible": "[.]".join(numbers[: 2 if numbers[0] == "0" else 1]),
    }
    return {f"@{name}@": value for name, value in values.items()}


def strip_tool(archiver: str) -> str:
    """The program beside the archiver: aarch64-linux-gnu-strip for aarch64-linux-gnu-ar."""
    beside = re.sub(r"(gcc-)?ar$", "strip", archiver)
    found = beside if beside != archiver and shutil.which(beside) else "strip"
    toolchain.require("STRIP", found, "binutils")
    return found


def declare(env, root: Path, version: str, config, library, archive, needs: list, owner) -> list:
    """What is installed when what it needs is built, as SCons' nodes. Raises Refusal for
    places that cannot be, and without strip."""
    where = places(env)
    strip = strip_tool(env["AR"]) if env["STRIP"] else ""

    def copy(target: str, source: str, env) -> int:
        """Beside it, then renamed: programs that run have the old library mapped."""
        new = os.path.join(os.path.dirname(target), f".{os.path.basename(target)}.new")
        try:
            shutil.copyfile(source, new)
            if strip and os.path.basename(target).startswith("libhakmem."):
                # D, as the archiver has it: equal objects give equal archives. Symbols that others link to stay.
                how = "--strip-debug" if target.endswith(".a") else "--strip-unneeded"
                subprocess.run([strip, how, "--enable-deterministic-archives", new], stdin=subprocess.DEVNULL, check=True)
            os.chmod(new, 0o644)
            os.replace(new, target)
        except BaseException:
            owner.leave_root()  # what SCons writes when it ends is the owner's
            raise
        return 0

    def copy_library(target: str, source: str, env) -> int:
        copy(target, source, env)
        installShlibLinks(target, source, env)
        return 0

    env = env.Clone(INSTALL=copy, INSTALLVERSIONEDLIB=copy_library, INSTALLSTR="INST $TARGET", SUBSTFILESUFFIX="",
                    SUBST_DICT=substitutions(where, version, config))
    libdir, share = where.destdir + where.libdir, f"{where.destdir}{where.prefix.rstrip('/')}/share"
    for folder in (libdir, where.destdir + where.includedir, share):
        with owner.as_root():
            existing = next(path for path in (Path(folder), *Path(folder).parents) if path.exists())
            if not (existing.is_dir() and os.access(existing, os.W_OK)):
                said = "Permission denied" if existing.is_dir() else "Not a directory"
                raise Refusal(f"install: {existing}: {said}")
    installed = [env.InstallVersionedLib(libdir, library), env.Install(libdir, archive)]
    texts = {name: env.Substfile(f"$BUILD/install/{name}", f"#site_scons/templates/{name}.in") for name in TEMPLATES}
    installed += [env.Install(f"{libdir}/{TEMPLATES[name]}", made) for name, made in texts.items()]
    headers = [str(header) for header in sorted((root / "core/include/hakmem").glob("*.h"))]
    for header in (*headers, "$BUILD/gen/inline.h"):  # the last one is this composition's
        installed.append(env.Install(f"{where.destdir}{where.includedir}/hakmem", header))
    for page in sorted((root / "doc/man").glob("*.[1-9]")):
        installed.append(env.Install(f"{share}/man/man{page.suffix[1:]}", str(page)))
    # Root may act for the owner of the tree: it is root from when all is built until all is installed.
    enter = env.Action(lambda target, source, env: owner.enter_root(), lambda *_: "")
    begin = env.AlwaysBuild(env.Alias("install-begins", [needs, *texts.values()], enter))
    env.Depends(installed, begin)
    env.Precious(installed)  # SCons would remove what is there before there is something new
    return env.AlwaysBuild(installed)


def uninstall(installed: list, library, owner) -> int:
    """Folders that are ours alone go with their last file; others stay."""
    libdir = Path(installed[0].abspath).parent
    paths = [libdir / link.name for link, _ in library.attributes.shliblinks]
    with owner.as_root():
        for path in [*(Path(node.abspath) for node in installed), *paths]:
            if path.is_symlink() or path.exists():
                path.unlink()
                print(f"RM   {path}")
            if path.parent.name == "hakmem" and path.parent.is_dir() and not any(path.parent.iterdir()):
                path.parent.rmdir()
    return 0
