#!/usr/bin/env bash
# Makes a disk image with a small 32-bit Linux of Debian's packages, and prints its path: a kernel for 686, busybox, and
# syslinux on a FAT16 partition with a file to be hashed. About a minute and 60 MB from Debian's mirror, once: it is kept in
# $SSHBLOCK_PEERS_DIR, else in ~/.cache/sshblock/peers. Needs syslinux, mtools, cpio, kmod, fdisk and apt.
set -euo pipefail

release=bookworm
peers=${SSHBLOCK_PEERS_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/sshblock/peers}
image=$peers/linux-686-$(sha256sum "${BASH_SOURCE[0]}" | cut -c1-12).img
if [ -f "$image" ]; then
  printf '%s\n' "$image"
  exit
fi

mkdir -p "$peers"
work=$(mktemp -d)
trap 'rm -rf --one-file-system "$work"' EXIT
cd "$work"
export PATH=$PATH:/usr/sbin:/sbin

# An apt of its own, for i386: the machine's architectures stay as they are.
mkdir -p state/lists/partial cache/archives/partial etc
touch status
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian $release main" >etc/sources.list
options=(
  -qq -o APT::Architecture=i386 -o APT::Architectures=i386 -o Dir::State="$work/state" -o Dir::State::status="$work/status"
  -o Dir::Cache="$work/cache" -o Dir::Etc::sourcelist="$work/etc/sources.list" -o Dir::Etc::sourceparts=/dev/null
  -o APT::Sandbox::User=root -o Acquire::Languages=none
)
apt-get "${options[@]}" update >&2
kernel=$(apt-cache "${options[@]}" depends linux-image-686 | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)$/\1/p' | head -1)
apt-get "${options[@]}" download "$kernel" busybox-static >&2
for package in ./*.deb; do dpkg-deb -x "$package" tree; done

version=$(basename tree/lib/modules/*)
depmod -b tree "$version"
mkdir -p root/{bin,dev,proc,sys,mnt,modules}
cp tree/bin/busybox root/bin/
# The drivers, in the order in which they are to be loaded, each behind what it needs.
modules=
for module in ata_piix ata_generic sd_mod vfat nls_cp437 nls_ascii nls_utf8; do
  files=$(modprobe -d tree -S "$version" --show-depends "$module" | sed -n 's/^insmod \([^ ]*\).*/\1/p')
  for file in $files; do
    name=$(basename "$file")
    [ -e "root/modules/$name" ] && continue
    cp "$file" root/modules/
    modules="$modules $name"
  done
done
cat >root/init <<END
#!/bin/busybox sh
export PATH=/bin
/bin/busybox --install -s /bin
mount -t proc none /proc
mount -t devtmpfs none /dev
for module in$modules; do insmod /modules/\$module; done
for try in 1 2 3 4 5 6 7 8 9 10; do [ -b /dev/sda1 ] && break; sleep 1; done
mount -t vfat /dev/sda1 /mnt
clear
echo "linux \$(uname -r) \$(uname -m)"
echo "sha256 \$(sha256sum /mnt/payload.bin | cut -c1-64)"
echo written by the machine >/mnt/written.txt
umount /mnt
sync
echo "all done"
while :; do sleep 1000; done
END
chmod 755 root/init
(cd root && find . | cpio -o -H newc --quiet | gzip -9) >initrd.gz

printf 'DEFAULT linux\nPROMPT 0\nTIMEOUT 1\nLABEL linux\n  KERNEL vmlinuz\n  APPEND initrd=initrd.gz quiet tsc=reliable mitigations=off random.trust_cpu=on\n' >syslinux.cfg
truncate -s 96M disk.img
printf 'label: dos\nstart=2048, type=e, bootable\n' | sfdisk -q disk.img
mbr=$(ls /usr/lib/SYSLINUX/mbr.bin /usr/lib/EXTLINUX/mbr.bin 2>/dev/null | head -1)
dd if="$mbr" of=disk.img conv=notrunc bs=440 count=1 status=none
export MTOOLS_SKIP_CHECK=1
partition=disk.img@@1048576
mformat -i "$partition" -T $((95 * 2048)) -h 16 -s 63 -H 2048 -c 4 ::
syslinux --install --offset 1048576 disk.img
head -c 5000000 /dev/urandom >payload.bin
mcopy -i "$partition" "tree/boot/vmlinuz-$version" ::/vmlinuz
mcopy -i "$partition" initrd.gz syslinux.cfg payload.bin ::/
mv disk.img "$image"
printf '%s\n' "$image"
