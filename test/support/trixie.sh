#!/usr/bin/env bash
# Makes a folder with newer releases of the peers, from Debian 13's packages, and prints its path: OpenSSH 10.0 (ML-KEM,
# sshd-session), dropbear 2025, asyncssh 2.20, PuTTY 0.83. They are run by chroot. About 30 s and 220 MB, once: the
# folder is kept in $SSHBLOCK_PEERS_DIR, else in ~/.cache/sshblock/peers, and made anew only where this list changes.
set -euo pipefail

packages=openssh-server,openssh-sftp-server,openssh-client,dropbear-bin,python3-asyncssh,putty-tools
peers=${SSHBLOCK_PEERS_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/sshblock/peers}
folder=$peers/trixie-$(printf %s "$packages" | sha256sum | cut -c1-12)

if [ ! -d "$folder" ]; then
  mkdir -p "$peers"
  # One maker at a time; the lock goes with the process. The others find the folder when they get it.
  exec 9>"$peers/.lock"
  flock 9
  if [ ! -d "$folder" ]; then
    echo "making $folder from Debian's packages, once (30 s)" >&2
    draft=$(mktemp -d "$peers/.draft-XXXXXX")
    trap 'rm -rf --one-file-system "$draft"' EXIT
    chmod 755 "$draft"
    # No service is started: mmdebstrap lays a policy-rc.d while it installs.
    mmdebstrap --quiet --variant=minbase --include="$packages" trixie "$draft" >&2 9>&-
    mv "$draft" "$folder"
    trap - EXIT
  fi
fi
printf '%s\n' "$folder"
