/* SPDX-License-Identifier: Apache-2.0 */
/* main: gradctl. */
#include "daemon/ctl/ctl.h"

int main(int argc, char **argv)
{
    return ctl_main(argc, argv);
}
