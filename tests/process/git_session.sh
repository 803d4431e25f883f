#!/bin/sh
# SPDX-License-Identifier: MIT
# A git repository from its first commit to its gc. What it prints is the same in every run.
# $1: a stream for git fast-import; $2: an empty folder.
set -e
export GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null GIT_PAGER=cat
export GIT_AUTHOR_NAME=A GIT_AUTHOR_EMAIL=a@example.org GIT_AUTHOR_DATE='1700000000 +0000'
export GIT_COMMITTER_NAME=C GIT_COMMITTER_EMAIL=c@example.org GIT_COMMITTER_DATE='1700000000 +0000'

cd "$2"
git init -q -b main made
cd made
git config pack.threads 2
git fast-import --quiet <"$1"
git checkout -q -f main
git checkout -q -b side main~100
for i in 1 2 3 4 5; do
    seq "$i" 3 20000 >"side$i.txt"
    git add "side$i.txt"
    git commit -q -m "side $i"
done
git merge -q -m merged main
git rebase -q main >/dev/null 2>&1
git rev-parse HEAD main
git log --format='%h %s' --stat -n 60
git log -p --no-color -M -S7777 --format=%h
git blame -s folder1/file1.txt
git grep -c 99 main~10 -- folder2
git diff --stat main~200 main
git shortlog -s HEAD
cd ..
git clone -q --no-local made cloned
cd cloned
git config pack.threads 2
git repack -q -a -d -f --depth=30 --window=20
git gc -q --aggressive --prune=now
git fsck --full --strict 2>&1
git cat-file --batch-all-objects --batch-check | sort
git status --short --branch
git archive HEAD | git get-tar-commit-id
