/* SPDX-License-Identifier: Apache-2.0 */
/* share: which microbatches a rank computes. */
#include "collectives/group.h"

void coll_share(int64_t n_microbatches, int size, int rank, int64_t *first_p, int64_t *n_p)
{
    int64_t first = n_microbatches * rank / size;
    *first_p = first;
    *n_p = n_microbatches * (rank + 1) / size - first;
}
