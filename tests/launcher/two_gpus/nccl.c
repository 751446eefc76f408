/* The one function of NCCL that the launcher calls itself. The id is laid out as NCCL's: eight random bytes, the family
   of an address, whose second byte is zero, and the address. */
#include <string.h>
#include <sys/random.h>

int ncclGetUniqueId(unsigned char *uid) {
  memset(uid, 0, 128);
  uid[8] = 2;
  return getrandom(uid, 8, 0) != 8 || getrandom(uid + 16, 4, 0) != 4;
}
