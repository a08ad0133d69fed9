#!/bin/sh
# A machine for one test: systemd as the first process of namespaces of its own, over a copy of this
# machine's files that is thrown away. Nothing in it reaches the machine around it: no file, port,
# process or kernel setting.
#
#   machine.sh FOLDER < what keeps it open
#
# Writes the number of its first process, as seen from here, and runs until its input ends, which it
# does with the test. FOLDER is an empty one.
set -eu

# What is left of the units: systemd, and its journal.
UNITS='basic multi-user network paths shutdown slices sockets sysinit timers'

inside() {
    root=$1/root
    # The machine around it is what can be read.
    mount -t tmpfs -o mode=755 tmpfs "$1"
    mkdir "$1/changes" "$1/work" "$root"
    mount -t overlay overlay -o "lowerdir=/,upperdir=$1/changes,workdir=$1/work" "$root"

    # As container managers do it: kernel settings and devices cannot be changed.
    mount -t proc proc "$root/proc"
    mount --bind "$root/proc/sys" "$root/proc/sys"
    mount -o remount,bind,ro "$root/proc/sys"
    mount -t sysfs -o ro sysfs "$root/sys"
    mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
    mount -t tmpfs -o mode=755 tmpfs "$root/dev"
    for device in full null random tty urandom zero; do
        : > "$root/dev/$device"
        mount --bind "/dev/$device" "$root/dev/$device"
    done
    mkdir "$root/dev/pts" "$root/dev/shm"
    mount -t devpts -o newinstance,ptmxmode=666 devpts "$root/dev/pts"
    mount -t tmpfs tmpfs "$root/dev/shm"
    ln -s pts/ptmx "$root/dev/ptmx"
    ln -s /proc/self/fd "$root/dev/fd"
    for folder in run tmp; do mount -t tmpfs -o mode=1777 tmpfs "$root/$folder"; done
    chmod 755 "$root/run"
    # What was installed from where.
    mkdir "$root/tmp/from"
    mount --bind "$2" "$root/tmp/from"

    mkdir "$root/tmp/old"
    cd "$root"
    pivot_root . tmp/old
    umount -l /tmp/old
    rmdir /tmp/old
    # As systemd finds it on a machine, and wants it: credentials reach a service by it.
    mount --make-rshared /
    ip link set lo up

    # None of its services, and nothing that would keep others from being started.
    kept=/tmp/units
    mkdir "$kept"
    for unit in $UNITS; do cp "/usr/lib/systemd/system/$unit.target" "$kept"; done
    cp /usr/lib/systemd/system/systemd-journald.service \
        /usr/lib/systemd/system/systemd-journald.socket \
        /usr/lib/systemd/system/systemd-journald-dev-log.socket "$kept"
    rm -rf /usr/lib/systemd/system /usr/lib/systemd/system-generators /etc/systemd/system \
        /usr/sbin/policy-rc.d /var/log/journal
    mkdir -p /etc/systemd/system/sockets.target.wants
    mv "$kept" /usr/lib/systemd/system
    ln -s /usr/lib/systemd/system/systemd-journald.socket /etc/systemd/system/sockets.target.wants/
    printf '[Journal]\nStorage=volatile\nReadKMsg=no\nAudit=\nRateLimitBurst=0\n' \
        > /etc/systemd/journald.conf
    : > /etc/machine-id

    exec env -i container=test PATH="$PATH" \
        /usr/lib/systemd/systemd --system --unit=multi-user.target --log-target=journal
}

if [ "${3:-}" = inside ]; then
    inside "$1" "$2"
fi

# Control groups of its own: those of a machine are at the root of what it sees.
groups=$1/groups
machine=$1/machine
mkdir "$groups" "$machine"
mount -t cgroup2 cgroup2 "$groups"
group=$groups/ssegateway-test-$$
mkdir "$group"
sh -c 'echo 0 > "$0/cgroup.procs"; shift; exec "$@"' "$group" - \
    unshare --cgroup --ipc --mount --net --pid --uts --fork sh "$0" "$machine" "$2" inside >&2 < /dev/null &
first=
while [ -z "$first" ] && kill -0 $!; do
    first=$(cat "/proc/$!/task/$!/children")
done
echo "$first"

# Until nobody holds the other end.
cat > /dev/null
echo 1 > "$group/cgroup.kill"
wait || true
# What was killed goes when the kernel has time.
until find "$group" -depth -type d -exec rmdir {} + 2> /dev/null; do sleep 0.1; done
umount "$groups"
