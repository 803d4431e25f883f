# SPDX-License-Identifier: MIT
# The usual targets of a project with menuconfig. SConstruct does the work; doc/building.md explains.
# Nothing below needs more than make and a shell until `make deps` has run.

.DEFAULT_GOAL := help
.PHONY: menuconfig guiconfig oldconfig olddefconfig savedefconfig listnewconfig defconfig randconfig \
        list-defconfigs help deps deps-servers test ab install install-strip uninstall clean FORCE

# O=FOLDER: all output goes there, .config too, and the sources may be read-only.
O              ?=
KCONFIG_CONFIG ?= $(if $(O),$(O)/).config
PLUGINS        ?=
export KCONFIG_CONFIG PLUGINS
BUILDS          = $(or $(O),build)

# Debian's scons runs on Debian's python3, which has kconfiglib; another may stand before it on PATH.
SCONS      ?= $(firstword $(wildcard /usr/bin/scons) scons)
JOBS       ?= $(shell nproc)
SCONS_ARGS ?=
override SCONS_ARGS := $(if $(O),O='$(O)') $(SCONS_ARGS)
export PYTHONDONTWRITEBYTECODE = $(if $(O),1)

# ── Configuration ───────────────────────────────────────────────────────────────────────────────────

# The first Python that has kconfiglib: yours (PYTHON=…), the system's, the one on PATH.
PYTHON ?=
find_python = python=; for try in $(PYTHON) /usr/bin/python3 python3; do \
	if "$$try" -c 'import kconfiglib' 2>/dev/null; then python=$$try; break; fi; done; \
	if [ -z "$$python" ]; then echo "make: no python3 here can import kconfiglib: run make deps" >&2; exit 1; fi

menuconfig guiconfig oldconfig olddefconfig listnewconfig:
	@$(find_python); $$python site_scons/kconfig.py $@

# A minimal configuration, to keep as configs/NAME_defconfig.
savedefconfig:
	@$(find_python); $$python site_scons/kconfig.py $@ $(if $(O),'$(O)'/)defconfig

# A random valid configuration; SEED=N gives the same one again.
SEED ?=
randconfig:
	@$(find_python); $$python site_scons/kconfig.py randconfig "$(SEED)"

defconfig: default_defconfig

%_defconfig: FORCE
	@if [ ! -f configs/$@ ]; then echo "make: there is no configs/$@; make list-defconfigs shows what there is" >&2; exit 1; fi
	@$(find_python); $$python site_scons/kconfig.py defconfig configs/$@

list-defconfigs:
	@for file in configs/*_defconfig; do \
	printf '%-24s %s\n' "$${file#configs/}" "$$(sed -n '1s/^# *//p' $$file)"; done

# ── Build and test ──────────────────────────────────────────────────────────────────────────────────

PACKAGES      = binutils gcc git libc6-dev python3 python3-kconfiglib scons
PACKAGES_AB   = python3-jinja2 python3-matplotlib python3-numpy python3-scipy zstd
PACKAGES_TUNE = python3-optuna
PACKAGES_DEB  = build-essential debhelper dpkg-dev fakeroot
PACKAGES_PORT = gcc-aarch64-linux-gnu libc6-dev-arm64-cross musl-tools qemu-user
# Of deps-servers. The tests of ENGINE= start servers of their own; no service of these packages is used.
PACKAGES_FAR  = munge openssh-client openssh-server parallel rsync slurm-client slurmctld slurmd
PACKAGES_TEST = chromium clang clang-format cmake groff-base libcriterion-dev libjemalloc2 lintian mypy pkgconf procps spin systemd $(PACKAGES_AB) $(PACKAGES_TUNE) $(PACKAGES_DEB) \
                $(PACKAGES_PORT) $(shell cat tests/process/packages.txt)

# Seconds to wait for another apt or dpkg, such as the automatic upgrades of a fresh machine. apt can wait for dpkg's
# lock, but not for the locks on its own lists and archives.
APT_WAIT = 600

# $(call install,PACKAGES): installs those that are missing; without missing packages it does not use the network.
define install
@missing=; for package in $(1); do \
	case $$(dpkg-query -W -f '$${db:Status-Status}' $$package 2>/dev/null) in installed) ;; *) missing="$$missing $$package" ;; esac; done; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	echo "make: missing Debian packages:$$missing"; \
	if ! command -v apt-get >/dev/null; then \
	echo "make: this system has no apt-get: install what corresponds to them, then run scons itself (scons test, scons ab)" >&2; exit 1; fi; \
	if [ "$$(id -u)" = 0 ]; then as_root=; elif command -v sudo >/dev/null; then as_root=sudo; else \
	echo "make: neither root nor sudo here. As root: apt-get install$$missing" >&2; exit 1; fi; \
	apt() { \
	for tried in $$(seq 0 5 $(APT_WAIT)); do \
	{ said=$$($$as_root env LC_ALL=C DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=$(APT_WAIT) "$$@" 2>&1 >&3) \
	&& status=0 || status=$$?; } 3>&1; \
	case "$$status $$said" in 0*) break ;; *"Could not get lock"*) ;; *) break ;; esac; \
	[ $$tried != 0 ] || echo "make: waiting for another apt to end: $$said"; sleep 5; done; \
	[ -z "$$said" ] || echo "$$said" >&2; return $$status; }; \
	apt update && apt install -y --no-install-recommends $$missing || { \
	echo "make: could not install$$missing: see apt's message above" >&2; exit 1; }
endef

deps:
	$(call install,$(sort $(PACKAGES) $(PACKAGES_TEST)))

# For the tests of ENGINE=, which are skipped without them. Apart from deps, because Debian starts the servers that it installs, an
# ssh server too.
deps-servers:
	$(call install,$(PACKAGES_FAR))

test: deps
	$(SCONS) -j$(JOBS) $(SCONS_ARGS) test

ab:
	$(call install,$(sort $(PACKAGES) $(PACKAGES_AB)))
	$(SCONS) -j$(JOBS) $(SCONS_ARGS) ab

# Where to install: on make's command line, as on scons', or in the environment.
PLACES = $(foreach name,PREFIX LIBDIR INCLUDEDIR DESTDIR,$(if $($(name)),$(name)='$($(name))'))

# CONFIG counts only on the command line. install-strip is GNU's name for stripped installation.
install-strip: STRIP = STRIP=yes
install install-strip uninstall:
	$(SCONS) -j$(JOBS) $(PLACES) $(STRIP) $(if $(filter command,$(origin CONFIG)),CONFIG='$(CONFIG)') $(SCONS_ARGS) $(@:install-strip=install)

# Waits for a build that is under way. In the user's own folder, removes only what was built.
clean:
	@if [ -e '$(BUILDS)/.lock' ] && command -v flock >/dev/null; then exec 9<'$(BUILDS)/.lock'; \
	flock -n 9 || { echo "make: waiting for the build that writes to $(BUILDS)/"; flock 9; }; fi; \
	$(if $(O),cd '$(O)' && rm -rf .lock .sconsign.dblite compile_commands.json ab bench deb && \
	for built in */gen; do [ ! -d "$$built" ] || rm -rf "$${built%/gen}"; done,rm -rf build)

# ── Help ────────────────────────────────────────────────────────────────────────────────────────────

help:
	@echo 'Configure'
	@echo '  make menuconfig        choose options in the terminal, into .config'
	@echo '  make guiconfig         the same in a window'
	@echo '  make oldconfig         ask for the options that .config does not have yet'
	@echo '  make olddefconfig      give them their defaults'
	@echo '  make listnewconfig     list them'
	@echo '  make NAME_defconfig    start from configs/NAME_defconfig'
	@echo '  make defconfig         start from configs/default_defconfig'
	@echo '  make randconfig        a random one (SEED=N: that one)'
	@echo '  make list-defconfigs   list configs/'
	@echo '  make savedefconfig     write what .config has beyond the defaults to ./defconfig'
	@echo 'Build'
	@echo '  scons                  build .config into build/local/; scons -h lists all there is'
	@echo '  make install           copy it below PREFIX (/usr/local); LIBDIR, INCLUDEDIR, DESTDIR, CONFIG=NAME'
	@echo '  make install-strip     the same without debug information'
	@echo '  make uninstall         remove what the same make install has put there'
	@echo '  make clean             remove build/'
	@echo 'Measure and test (these install the Debian packages that are missing)'
	@echo '  make ab                compare the default configuration with the system'"'"'s malloc'
	@echo '  make test              build and test the default configuration and every pair of plug-ins'
	@echo '  make deps              only install the packages'
	@echo '  make deps-servers      install ssh and Slurm servers as well, for the tests of ENGINE='
	@echo '  make help              show this'
	@echo 'Variables'
	@echo '  KCONFIG_CONFIG=FILE    instead of .config'
	@echo '  O=FOLDER               write there, .config too, instead of to build/ and .config'
	@echo '  PLUGINS=FOLDER         with more policies/ and backends/, outside of this tree'
	@echo '  PYTHON=COMMAND         a Python with kconfiglib'
	@echo '  JOBS=N                 commands at a time'
	@echo '  SCONS_ARGS="..."       more for scons: SCONS_ARGS="CONFIG=keep ONLY=contract"'
