# SPDX-License-Identifier: MIT
"""`scons install` and `scons uninstall`: what goes where, and what tells other build systems about it.

Both work from one list, so that uninstall removes what install has put there, and nothing else.
"""

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path


class InstallError(Exception):
    pass


@dataclass
class Places:
    """Where things go. All are absolute and normal; `destdir`, which no file says anything of, may be empty."""

    prefix: str
    libdir: str
    includedir: str
    destdir: str

    def staged(self, path: str) -> Path:
        return Path(self.destdir + path)


def places(env) -> Places:
    """From PREFIX, LIBDIR, INCLUDEDIR and DESTDIR. Raises InstallError for what cannot be."""

    def path(name: str, default: str) -> str:
        value = env[name] or default
        # Spaces and the like mean something in pkg-config's and CMake's files.
        if value and not value.startswith("/"):
            raise InstallError(f"{name}={value}: this must be an absolute path")
        if name != "DESTDIR" and not re.fullmatch(r"[\w/.+:@~-]+", value):
            raise InstallError(f"{name}={value}: only letters, digits and any of / . _ + : @ ~ - may be in it")
        normal = os.path.normpath("/" + value.lstrip("/")) if value else ""
        return "" if normal == "/" and name == "DESTDIR" else normal

    prefix = path("PREFIX", "/usr/local")
    below = "" if prefix == "/" else prefix
    return Places(
        prefix, path("LIBDIR", f"{below}/lib"), path("INCLUDEDIR", f"{below}/include"), path("DESTDIR", "")
    )


def below_prefix(path: str, where: Places) -> str:
    """A path as pkg-config's files write it."""
    prefix = where.prefix.rstrip("/") + "/"
    return "${prefix}/" + path[len(prefix) :] if path.startswith(prefix) else path


def composition(config) -> "dict[str, str]":
    """What was composed, for pkg-config's variables and CMake's."""
    return {
        "frontend": config.frontend,
        "backend": config.backend,
        "names": "libc hak" if "OVERRIDE_LIBC" in config.enabled else "hak",  # malloc and the rest, or hak_malloc alone
        "config_digest": config.digest,
    }


def pkgconfig_text(where: Places, version: str, config) -> str:
    composed = "".join(f"{name}={value}\n" for name, value in composition(config).items())
    return f"""prefix={where.prefix}
libdir={below_prefix(where.libdir, where)}
includedir={below_prefix(where.includedir, where)}
{composed}
Name: hakmem
Description: malloc that is composed at build time: {config.frontend}, {config.backend}
Version: {version}
Cflags: -I${{includedir}}
Libs: -L${{libdir}} -lhakmem
Libs.private: -pthread
"""


def cmake_text(where: Places, version: str, config) -> str:
    """The imported targets. Relative paths, so that what was installed may be moved as a whole."""
    composed = "".join(f'set(hakmem_{name.upper()} "{value}")\n' for name, value in composition(config).items())
    include = os.path.relpath(where.includedir, where.libdir)
    return f"""# hakmem::hakmem is the shared library, hakmem::hakmem-static the archive.
include(CMakeFindDependencyMacro)
find_dependency(Threads)

{composed}
# Not through a link such as /lib, beside which there is no include/.
get_filename_component(_hakmem_libdir "${{CMAKE_CURRENT_LIST_DIR}}" REALPATH)
get_filename_component(_hakmem_libdir "${{_hakmem_libdir}}/../.." ABSOLUTE)
get_filename_component(_hakmem_includedir "${{_hakmem_libdir}}/{include}" ABSOLUTE)

if(NOT TARGET hakmem::hakmem)
  add_library(hakmem::hakmem SHARED IMPORTED)
  set_target_properties(hakmem::hakmem PROPERTIES
    IMPORTED_LOCATION "${{_hakmem_libdir}}/libhakmem.so.{version}"
    IMPORTED_SONAME "{soname(version)}"
    INTERFACE_INCLUDE_DIRECTORIES "${{_hakmem_includedir}}")
  add_library(hakmem::hakmem-static STATIC IMPORTED)
  set_target_properties(hakmem::hakmem-static PROPERTIES
    IMPORTED_LOCATION "${{_hakmem_libdir}}/libhakmem.a"
    INTERFACE_INCLUDE_DIRECTORIES "${{_hakmem_includedir}}"
    INTERFACE_LINK_LIBRARIES Threads::Threads)
endif()

unset(_hakmem_libdir)
unset(_hakmem_includedir)
"""


def cmake_version_text(version: str) -> str:
    """Before 1.0 each minor version may differ from the one before, as a major one later."""
    compatible = ".".join(version.split(".")[: 2 if version.startswith("0.") else 1])
    return f"""set(PACKAGE_VERSION "{version}")
if(NOT CMAKE_SIZEOF_VOID_P EQUAL 8)
  set(PACKAGE_VERSION_UNSUITABLE TRUE)
elseif(PACKAGE_FIND_VERSION VERSION_EQUAL PACKAGE_VERSION)
  set(PACKAGE_VERSION_EXACT TRUE)
  set(PACKAGE_VERSION_COMPATIBLE TRUE)
elseif(PACKAGE_FIND_VERSION VERSION_LESS PACKAGE_VERSION
       AND PACKAGE_FIND_VERSION MATCHES "^{re.escape(compatible)}([.]|$)")
  set(PACKAGE_VERSION_COMPATIBLE TRUE)
else()
  set(PACKAGE_VERSION_COMPATIBLE FALSE)
endif()
"""


def soname(version: str) -> str:
    return f"libhakmem.so.{version.split('.')[0]}"


@dataclass
class Item:
    """A file that is installed: a copy of one, a text, or a link."""

    path: str
    copy: "Path | None" = None
    text: str = ""
    link: str = ""


def items(root: Path, build: Path, where: Places, version: str, config) -> "list[Item]":
    """All that is installed of a build."""
    full = f"libhakmem.so.{version}"
    found = [
        Item(f"{where.libdir}/{full}", copy=build / full),
        Item(f"{where.libdir}/{soname(version)}", link=full),
        Item(f"{where.libdir}/libhakmem.so", link=soname(version)),
        Item(f"{where.libdir}/libhakmem.a", copy=build / "libhakmem.a"),
        Item(f"{where.libdir}/pkgconfig/hakmem.pc", text=pkgconfig_text(where, version, config)),
        Item(f"{where.libdir}/cmake/hakmem/hakmem-config.cmake", text=cmake_text(where, version, config)),
        Item(f"{where.libdir}/cmake/hakmem/hakmem-config-version.cmake", text=cmake_version_text(version)),
    ]
    found += [
        Item(f"{where.includedir}/hakmem/{header.name}", copy=header)
        for header in sorted((root / "core/include/hakmem").glob("*.h"))
    ]
    share = f"{where.prefix.rstrip('/')}/share"
    found += [
        Item(f"{share}/man/man{page.suffix[1:]}/{page.name}", copy=page)
        for page in sorted((root / "doc/man").glob("*.[1-9]"))
    ]
    return found


def strip_tool(archiver: str) -> str:
    """The program beside the archiver: aarch64-linux-gnu-strip for aarch64-linux-gnu-ar."""
    beside = re.sub(r"ar$", "strip", archiver.removesuffix("gcc-ar") + "ar" if archiver.endswith("gcc-ar") else archiver)
    return beside if beside != archiver and shutil.which(beside) else "strip"


def stripped(strip: str, file: Path) -> None:
    """Leaves the symbols that others link to."""
    how = "--strip-debug" if file.name.endswith(".a.new") else "--strip-unneeded"
    # D, as the archiver has it: equal objects give equal archives.
    subprocess.run([strip, how, "--enable-deterministic-archives", str(file)], stdin=subprocess.DEVNULL, check=True)


def install(found: "list[Item]", where: Places, strip: str = "") -> None:
    """`strip` takes the debug information out of what is installed; none leaves it there."""
    for item in found:
        target = where.staged(item.path)
        target.parent.mkdir(parents=True, exist_ok=True)
        # Beside it, then renamed: programs that run have the old library mapped.
        new = target.with_name(f".{target.name}.new")
        new.unlink(missing_ok=True)
        if item.link:
            new.symlink_to(item.link)
        else:
            if item.copy:
                shutil.copyfile(item.copy, new)
                if strip and item.copy.name.startswith("libhakmem."):
                    stripped(strip, new)
            else:
                new.write_text(item.text, encoding="utf-8")
            new.chmod(0o644)
        new.replace(target)
        print(f"INST {target}")


def uninstall(found: "list[Item]", where: Places, _strip: str = "") -> None:
    """Folders that are ours alone go with their last file; others stay."""
    for item in found:
        target = where.staged(item.path)
        if target.is_symlink() or target.exists():
            target.unlink()
            print(f"RM   {target}")
        folder = target.parent
        if folder.name == "hakmem" and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def act(action, found: "list[Item]", where: Places, strip: str) -> int:
    """Returns 0, or 1 after saying what the system did not let us do, as SCons wants it."""
    try:
        action(found, where, strip)
    except subprocess.CalledProcessError as error:
        print(f"scons: {action.__name__}: {strip} fails on {error.cmd[-1]}")
        return 1
    except OSError as error:
        print(f"scons: {action.__name__}: {error.filename}: {error.strerror}")
        return 1
    return 0
