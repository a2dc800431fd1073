// pflags of OPEN (draft-ietf-secsh-filexfer-02 s6.3), names without SSH_FXF_.

export const openFlag = {
  read: 0x01,
  write: 0x02,
  append: 0x04,
  creat: 0x08,
  trunc: 0x10,
  excl: 0x20,
} as const
