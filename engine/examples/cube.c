/* SPDX-License-Identifier: Apache-2.0 */
/* cube: the gradient of x³ at x = 2 is 3 x² = 12. */
#include <stdio.h>

#include "gradd/autograd.h"
#include "gradd/chain.h"

int main(void)
{
    gd_chain_t c = {0};
    gd_tensor_t *x = gd_chain_call(&c, gd_tensor_scalar, GD_DTYPE_F32, 2);
    if (x == NULL || gd_tensor_set_requires_grad(x, true) != ST_OK) {
        return 1;
    }
    double gradient = 0;
    gd_tensor_t *y = gd_chain_call(&c, gd_pow, x, 3);
    if (y != NULL && gd_backward(y, NULL, false) == ST_OK) {
        (void)gd_tensor_item(gd_tensor_grad(x), &gradient);
    }
    (void)printf("d(x³)/dx at 2 = %g\n", gradient);
    return gd_chain_end(&c, NULL, NULL) == ST_OK && gradient == 12 ? 0 : 1;
}
