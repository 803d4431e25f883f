/* SPDX-License-Identifier: MIT */
/* Does nothing and prints its private dirty memory in KB, as the measure of what the library costs
 * a process that hardly uses it.
 */
#include "dirty.h"

int main(void)
{
    char text[32];
    int length = snprintf(text, sizeof text, "%ld\n", dirty_kilobytes());

    return write(1, text, (size_t)length) != length;
}
