// The table's part for files, terminals and pipes.

#pragma once

#include <exo/linux/call.hpp>
#include <exo/linux/descriptor_calls.hpp>
#include <exo/linux/name_calls.hpp>
#include <exo/linux/numbers.hpp>
#include <exo/linux/poll_calls.hpp>
#include <exo/linux/status_calls.hpp>
#include <exo/linux/transfer_calls.hpp>

namespace exo::linux_abi {

template <class System, class Table>
constexpr void add_file_calls(Table& table)
{
    using enum number;
    // Bytes.
    table.template set<sys_read<System>>(read);
    table.template set<sys_write<System>>(write);
    table.template set<sys_readv<System>>(readv);
    table.template set<sys_writev<System>>(writev);
    table.template set<sys_pread64<System>>(pread64);
    table.template set<sys_pwrite64<System>>(pwrite64);
    table.template set<sys_preadv<System>>(preadv);
    table.template set<sys_pwritev<System>>(pwritev);
    table.template set<sys_lseek<System>>(lseek);
    table.template set<sys_sendfile<System>>(sendfile);
    table.template set<sys_getdents64<System>>(getdents64);
    // What is known about files.
    table.template set<sys_stat<System>>(stat);
    table.template set<sys_fstat<System>>(fstat);
    table.template set<sys_lstat<System>>(lstat);
    table.template set<sys_newfstatat<System>>(newfstatat);
    table.template set<sys_statx<System>>(statx);
    table.template set<sys_access<System>>(access);
    table.template set<sys_faccessat<System>>(faccessat);
    table.template set<sys_faccessat2<System>>(faccessat2);
    table.template set<sys_readlink<System>>(readlink);
    table.template set<sys_readlinkat<System>>(readlinkat);
    table.template set<sys_statfs<System>>(statfs);
    table.template set<sys_fstatfs<System>>(fstatfs);
    table.template set<sys_getcwd<System>>(getcwd);
    // Names.
    table.template set<sys_open<System>>(open);
    table.template set<sys_openat<System>>(openat);
    table.template set<sys_creat<System>>(creat);
    table.template set<sys_close<System>>(close);
    table.template set<sys_mkdir<System>>(mkdir);
    table.template set<sys_mkdirat<System>>(mkdirat);
    table.template set<sys_mknod<System>>(mknod);
    table.template set<sys_mknodat<System>>(mknodat);
    table.template set<sys_unlink<System>>(unlink);
    table.template set<sys_unlinkat<System>>(unlinkat);
    table.template set<sys_rmdir<System>>(rmdir);
    table.template set<sys_rename<System>>(rename);
    table.template set<sys_renameat<System>>(renameat);
    table.template set<sys_renameat2<System>>(renameat2);
    table.template set<sys_link<System>>(link);
    table.template set<sys_linkat<System>>(linkat);
    table.template set<sys_symlink<System>>(symlink);
    table.template set<sys_symlinkat<System>>(symlinkat);
    table.template set<sys_chmod<System>>(chmod);
    table.template set<sys_fchmod<System>>(fchmod);
    table.template set<sys_fchmodat<System>>(fchmodat);
    table.template set<sys_chown<System>>(chown);
    table.template set<sys_fchown<System>>(fchown);
    table.template set<sys_lchown<System>>(lchown);
    table.template set<sys_fchownat<System>>(fchownat);
    table.template set<sys_utimensat<System>>(utimensat);
    table.template set<sys_utimes<System>>(utimes);
    table.template set<sys_umask<System>>(umask);
    table.template set<sys_truncate<System>>(truncate);
    table.template set<sys_ftruncate<System>>(ftruncate);
    table.template set<sys_chdir<System>>(chdir);
    table.template set<sys_fchdir<System>>(fchdir);
    table.template set<sys_chroot<System>>(chroot);
    table.template set<sys_mount<System>>(mount);
    table.template set<sys_umount2<System>>(umount2);
    table.template set<sys_sync<System>>(sync);
    table.template set<sys_syncfs<System>>(syncfs);
    table.template set<sys_fsync<System>>(fsync);
    table.template set<sys_fsync<System>>(fdatasync);
    // Descriptors.
    table.template set<sys_dup<System>>(dup);
    table.template set<sys_dup2<System>>(dup2);
    table.template set<sys_dup3<System>>(dup3);
    table.template set<sys_fcntl<System>>(fcntl);
    table.template set<sys_ioctl<System>>(ioctl);
    table.template set<sys_pipe<System>>(pipe);
    table.template set<sys_pipe2<System>>(pipe2);
    table.template set<sys_fadvise64<System>>(fadvise64);
    table.template set<sys_poll<System>>(poll);
    table.template set<sys_ppoll<System>>(ppoll);
    table.template set<sys_select<System>>(select);
    table.template set<sys_pselect6<System>>(pselect6);
    // Sockets.
    table.template set<sys_socket<System>>(socket);
    table.template set<sys_socket<System>>(socketpair);
    for (const auto n : {connect, accept, accept4, bind, listen, getsockname, getpeername, setsockopt, getsockopt,
                         shutdown, sendto, recvfrom, sendmsg, recvmsg})
        table.template set<sys_on_socket<System>>(n);
}

} // namespace exo::linux_abi
